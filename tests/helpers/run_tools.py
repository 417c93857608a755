"""Runs tools one after another as their users do, with torchvision made importable first.

python run_tools.py TOOL.py [ARGUMENTS] -- TOOL.py [ARGUMENTS] ...

One process for all of them, since importing PyTorch, TensorFlow and JAX takes longest. Stops at
the first that fails, with its status.
"""

import itertools
import runpy
import sys

from absl import flags

from tests.helpers import torchvision_ops

TOOL_FLAGS = {"checkpoint", "out", "config", "model"}


def run(command: list[str]) -> int:
    """Runs a tool; its exit status."""
    sys.argv = command
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        for name in TOOL_FLAGS & set(flags.FLAGS):
            delattr(flags.FLAGS, name)  # the next tool defines them again
        flags.FLAGS.unparse_flags()
    return 0


if __name__ == "__main__":
    torchvision_ops.declare()
    groups = itertools.groupby(sys.argv[1:], lambda word: word == "--")
    status = 0
    for command in [list(words) for is_bar, words in groups if not is_bar]:
        status = status or run(command)
    sys.exit(status)

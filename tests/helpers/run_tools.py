"""Runs commands one after another as their users do, in one process.

python run_tools.py COMMAND [ARGUMENTS] -- COMMAND [ARGUMENTS] ...

A command is a script such as tools/plan.py, the name of an entry point such as clipa-plan, `-m`
with a module, or `-c` with code. Importing PyTorch, TensorFlow and JAX takes longest, so all share
one process. Stops at the first that fails, with its status.
"""

import importlib
import itertools
import runpy
import sys
import tomllib
from pathlib import Path

import jax
from absl import flags

ROOT = Path(__file__).parents[2]
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


def run(command: list[str]) -> int:
    """Runs a command; its exit status."""
    sys.argv = command[command[0] == "-m" :]
    try:
        if command[0] == "-m":
            module = importlib.import_module(command[1])
            module.start()
        elif command[0] == "-c":
            exec(command[1], {"__name__": "__main__"})  # noqa: S102, code of a page
        elif command[0] in SCRIPTS:
            module, function = SCRIPTS[command[0]].split(":")
            getattr(importlib.import_module(module), function)()
        else:
            runpy.run_path(command[0], run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        forget_flags()
    return 0


def no_cluster(**_: object) -> None:
    """Stands for `jax.distributed.initialize`, which only the first command could call."""
    raise ValueError("no coordinator_address: this process is alone")


def forget_flags() -> None:
    """Removes the flags of the package and the modules that define them."""
    for module, defined in list(flags.FLAGS.flags_by_module_dict().items()):
        if module.startswith("clipa_jax"):
            if not module.startswith("clipa_jax.runtime"):
                sys.modules.pop(module, None)
            for flag in list(defined):
                if flag.name in flags.FLAGS:
                    delattr(flags.FLAGS, flag.name)
    for name in [name for name in flags.FLAGS if name.startswith("config")]:
        delattr(flags.FLAGS, name)  # --config and its overrides
    flags.FLAGS.unparse_flags()


if __name__ == "__main__":
    jax.distributed.initialize = no_cluster
    if any("torch" in word for word in sys.argv):
        importlib.import_module("tests.helpers.torchvision_ops").declare()
    sys.path.insert(0, str(ROOT / "tools"))
    groups = itertools.groupby(sys.argv[1:], lambda word: word == "--")
    status = 0
    for command in [list(words) for is_bar, words in groups if not is_bar]:
        status = status or run(command)
    sys.exit(status)

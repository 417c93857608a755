"""Evaluates a checkpoint, or compares two: a table with intervals, JSON and Markdown.

python -m clipa_jax.evaluate --config=configs/demo/finetune_2.py --checkpoint=runs/demo --out=A
python -m clipa_jax.evaluate --compare=A/evaluation.json,B/evaluation.json

The table goes to standard error, JSON to standard output unless that is a terminal. --out writes
both to files too, with the values per sample. See docs/evaluation.md.

Exit status: 0 if complete; 3 if some evaluations are missing, which the JSON names; 1 on an error.
"""

import functools

from absl import flags
from ml_collections import config_flags

from clipa_jax.errors import ConfigError
from clipa_jax.evaluation import comparability
from clipa_jax.evaluation.command import Command
from clipa_jax.runtime import cli

CONFIG = cli.define_config()
CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    None,
    "A workdir, a stage's folder, a .npz of CLIPA, a folder of open_clip, hf-hub:OWNER/NAME, or a "
    "name in docs/released_weights.md.",
)
STAGE = config_flags.DEFINE_config_file(
    "stage", None, "The config that trained the weights, for a .npz with a --config of evals alone."
)
COMPARE = flags.DEFINE_list(
    "compare",
    [],
    "A,B: the difference B - A; each a checkpoint or an evaluation.json.",
)
ACROSS = flags.DEFINE_list(
    "across", [], f"Inputs that may differ in a comparison: {', '.join(comparability.ON_REQUEST)}."
)
OUT = flags.DEFINE_string(
    "out", "", "Folder for JSON, Markdown and samples, or the name of the .json."
)
NUMERICS = flags.DEFINE_enum(
    "numerics",
    "",
    ["", "clipa", "open_clip"],
    "Of an open_clip model; see docs/released_weights.md.",
)


def main(argv: list[str]) -> int | None:
    """Evaluates or compares, and returns the exit status."""
    del argv
    command = Command(CONFIG.value, STAGE.value, OUT.value, NUMERICS.value)
    if bool(CHECKPOINT.value) == bool(COMPARE.value):
        raise ConfigError("name one checkpoint with --checkpoint=PATH, or two with --compare=A,B")
    if CHECKPOINT.value:
        return command.evaluate(CHECKPOINT.value)
    return command.compare(COMPARE.value, ACROSS.value)


start = functools.partial(cli.run, main, needs_config=False)

if __name__ == "__main__":
    start()

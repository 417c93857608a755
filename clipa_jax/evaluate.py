"""Evaluates a checkpoint, or compares two: a table with intervals, JSON and Markdown.

python -m clipa_jax.evaluate --config=configs/demo/finetune_2.py --checkpoint=runs/demo --out=here
python -m clipa_jax.evaluate --compare=here/evaluation.json,there/evaluation.json

The table goes to standard error, JSON to standard output unless that is a terminal. With --out
both go to files too, and beside them what was said of each sample. See docs/evaluation.md.

Exit status: 0, all that was asked for is there; 3, some of it is not, and the JSON says what and
why; 1, nothing came of it, and a sentence says why.
"""

from absl import flags
from ml_collections import config_flags

from clipa_jax.errors import ConfigError
from clipa_jax.evaluation import comparison
from clipa_jax.evaluation.command import Command
from clipa_jax.runtime import cli

CONFIG = cli.define_config()
CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "A workdir, a stage's folder, a .npz of CLIPA or a folder of open_clip."
)
STAGE = config_flags.DEFINE_config_file(
    "stage", None, "The config that trained the weights, for a .npz with a --config of evals alone."
)
COMPARE = flags.DEFINE_list(
    "compare", [], "A,B: what B has more than A; each a checkpoint, or a .json written before."
)
ACROSS = flags.DEFINE_list(
    "across", [], f"What a comparison may be made across: {', '.join(comparison.ACROSS)}."
)
OUT = flags.DEFINE_string(
    "out", "", "Where JSON, Markdown and samples go: this folder, or beside this .json."
)


def main(argv: list[str]) -> int | None:
    """Evaluates or compares, and says what came of it."""
    del argv
    command = Command(CONFIG.value, STAGE.value, OUT.value)
    if bool(CHECKPOINT.value) == bool(COMPARE.value):
        raise ConfigError("name one checkpoint with --checkpoint=PATH, or two with --compare=A,B")
    if CHECKPOINT.value:
        return command.evaluate(CHECKPOINT.value)
    return command.compare(COMPARE.value, ACROSS.value)


if __name__ == "__main__":
    cli.run(main, needs_config=False)

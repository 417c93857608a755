"""Evaluates a checkpoint, or compares two: a table with intervals, JSON and Markdown.

python -m clipa_jax.evaluate --config=configs/demo/finetune_2.py --checkpoint=runs/demo --out=A
python -m clipa_jax.evaluate --compare=A/evaluation.json,B/evaluation.json

The table goes to standard error, JSON to standard output unless that is a terminal. --out writes
both to files too, with the values per sample. See docs/evaluation.md.

Exit status: 0 if complete; 3 if some evaluations are missing, which the JSON names; 1 on an error.
"""

from absl import flags
from ml_collections import config_flags

from clipa_jax.errors import ConfigError
from clipa_jax.evaluation import comparability
from clipa_jax.evaluation.command import Command
from clipa_jax.runtime import cli


def main(argv: list[str]) -> int | None:
    """Evaluates or compares, and returns the exit status."""
    del argv
    given = flags.FLAGS
    command = Command(given.config, given.stage, given.out, given.numerics)
    if bool(given.checkpoint) == bool(given.compare):
        raise ConfigError("name one checkpoint with --checkpoint=PATH, or two with --compare=A,B")
    if given.checkpoint:
        return command.evaluate(given.checkpoint)
    return command.compare(given.compare, given.across)


def start() -> None:
    """Runs the command line, whose flags are not defined for those who only import this module."""
    cli.define_config()
    flags.DEFINE_string(
        "checkpoint",
        None,
        "A workdir, a stage's folder, a .npz of CLIPA, a folder of open_clip, hf-hub:OWNER/NAME, "
        "or a name in docs/released_weights.md.",
    )
    config_flags.DEFINE_config_file(
        "stage",
        None,
        "The config that trained the weights, for a .npz with a --config of evals alone.",
    )
    flags.DEFINE_list(
        "compare",
        [],
        "A,B: the difference B - A; each a checkpoint or an evaluation.json.",
    )
    flags.DEFINE_list(
        "across",
        [],
        f"Inputs that may differ in a comparison: {', '.join(comparability.ON_REQUEST)}.",
    )
    flags.DEFINE_string(
        "out", "", "Folder for JSON, Markdown and samples, or the name of the .json."
    )
    flags.DEFINE_enum(
        "numerics",
        "",
        ["", "clipa", "open_clip"],
        "Of an open_clip model; see docs/released_weights.md.",
    )
    cli.run(main, needs_config=False)


if __name__ == "__main__":
    start()

"""Checks machines, storage and data before a long run: a table, and status 1 if a check failed.

    python tools/verify.py --config=configs/model_h/schedule.py --workdir=gs://BUCKET/W

The command of the training with another program, on all processes. It writes only below
WORKDIR/verify, and removes that. See docs/performance.md.
"""

from absl import flags

from clipa_jax.benchmark import verify
from clipa_jax.runtime import cli, distributed


def main(argv: list[str]) -> int:
    """Prints the table of all checks."""
    del argv
    rows = verify.verify(verify.setup(flags.FLAGS.config, flags.FLAGS.workdir))
    if distributed.first():
        cli.say(verify.text(rows))
    return int(any(row.result == "failed" for row in rows))


def start() -> None:
    """Runs the command line."""
    cli.define_config()
    flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
    cli.run(main)

"""Checks machines, storage and data before a long run: a table, and status 1 if a check failed.

    python tools/verify.py --config=configs/model_h/schedule.py --workdir=gs://BUCKET/W

The command of the training with another program, on all processes. It writes only below
WORKDIR/verify, and removes that. See docs/performance.md.
"""

import functools

from absl import flags

from clipa_jax.benchmark import verify
from clipa_jax.runtime import cli, distributed

CONFIG = cli.define_config()
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)


def main(argv: list[str]) -> int:
    """Prints the table of all checks."""
    del argv
    rows = verify.verify(verify.setup(CONFIG.value, WORKDIR.value))
    if distributed.first():
        cli.say(verify.text(rows))
    return int(any(row.result == "failed" for row in rows))


start = functools.partial(cli.run, main)

if __name__ == "__main__":
    start()

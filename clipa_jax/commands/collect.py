"""Gathers every summary.json below a folder into a table, averages over seeds, and plots.

    python tools/collect.py runs/my_sweep
    python tools/collect.py runs/my_sweep --by=optim.lr_per_256 --x=optim.lr_per_256 --out=collected
    python tools/collect.py runs/inverse_scaling --law --out=collected

Keys are those of the last stage's config; `pretrain.input.res` is one of an earlier stage. By
default the table has a row for each combination of the keys that differ, and averages over the
seed alone: mean and standard error. Runs that differ in a key that is not named are refused, runs
about different data are kept apart and marked. With --out it writes runs.csv, every finished
stage with its costs, training FLOPs and scores; table.md; and plots of each metric against FLOPs
and --x. The CSV can be given in place of the folder.

--law compares each run of a grid like that of tools/sweeps/inverse_scaling.sh with the run at full
length of the same size and seed.
"""

import functools

from clipa_jax.report.collect import main
from clipa_jax.runtime import cli

start = functools.partial(cli.run, main, doc=__doc__, needs_config=False, positional=True)

if __name__ == "__main__":
    start()

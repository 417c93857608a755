"""Writes one HTML page on a run, or on several side by side, that opens from disk.

    python tools/report.py runs/demo
    python tools/report.py runs/a runs/b --out=both.html
    python tools/report.py runs/old --look      # held-out pictures of a run that has none

docs/report.md describes its sections and their files.
"""

import functools

from clipa_jax.report.command import main
from clipa_jax.runtime import cli

start = functools.partial(cli.run, main, doc=__doc__, needs_config=False, positional=True)

if __name__ == "__main__":
    start()

"""Writes one HTML page on a run, or on several side by side, that opens from disk.

    python tools/report.py runs/demo
    python tools/report.py runs/a runs/b --out=both.html
    python tools/report.py runs/old --look      # held-out pictures of a run that has none

docs/report.md says what it shows and where that comes from.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for clipa_jax

from clipa_jax.report import command
from clipa_jax.runtime import cli

if __name__ == "__main__":
    cli.run(command.main, needs_config=False, positional=True)

"""Measures the speed of the training step or of the input pipeline.

    python tools/benchmark.py step --config=configs/model_h/pretrain.py --config.microbatch=256
    python tools/benchmark.py data --config=configs/demo/pretrain.py

Each has flags of its own: `python tools/benchmark.py step --help`.
"""

import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for clipa_jax and configs

from clipa_jax.runtime import cli

SUBJECTS = ("step", "data")

if __name__ == "__main__":
    subject = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if subject not in SUBJECTS:
        sys.exit(f"error: expected a subject, step or data, came {subject!r}")
    # Imports one subject only: `step` needs no TensorFlow, and their flags differ.
    cli.run(importlib.import_module(f"clipa_jax.benchmark.{subject}").main)

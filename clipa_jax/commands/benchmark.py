"""Measures the speed of the training step or of the input pipeline.

    python tools/benchmark.py step --config=configs/model_h/pretrain.py --config.microbatch=256
    python tools/benchmark.py data --config=configs/demo/pretrain.py

Each has flags of its own: `python tools/benchmark.py step --help`.
"""

import importlib
import sys

SUBJECTS = ("step", "data")


def start() -> None:
    """Runs one benchmark; `step` needs no TensorFlow, so only its own module is imported."""
    subject = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if subject in ("--help", "-h", "--helpfull"):
        sys.stdout.write(__doc__)
        sys.exit()
    if subject not in SUBJECTS:
        sys.exit(f"error: expected a subject, step or data, got {subject!r}")
    importlib.import_module(f"clipa_jax.benchmark.{subject}").start()

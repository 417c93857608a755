"""Estimates memory, time and cost of every stage before launching.

    python tools/plan.py --config=configs/model_h/schedule.py --topology=v5e:8x8
    python tools/plan.py --config=configs/model_l/pretrain.py --topology=v5e:4x4 --search=batch
    python tools/plan.py --config=configs/model_h/schedule.py --device=h200 --chips=8
    python tools/plan.py --published

With --topology the TPU compiler compiles the training step of every stage on any machine; that
needs requirements-tpu.txt but no TPU. With --device the numbers are estimates from sizes alone.
Any key of the config can be overridden, as in training.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for clipa_jax and configs

from clipa_jax.planning import command
from clipa_jax.runtime import cli

if __name__ == "__main__":
    cli.run(command.main, needs_config=False)

"""Runs every evaluator on the fake world, and as a process prints the values."""

import json
import sys

import jax

from clipa_jax import evaluators
from clipa_jax.config.settings import Settings

HELD_OUT = {"source": "fake", "split": "heldout", "batch_size": 4}
CONFIG = {
    "zero_shot": {"type": "zero_shot", "label": "concept", "by": "group", **HELD_OUT},
    "retrieval": {"type": "retrieval", **HELD_OUT},
    "probe": {"type": "linear_probe", "label": "concept", "train_split": "train", **HELD_OUT},
    "contrastive": {"type": "contrastive", "candidates": 4, **HELD_OUT},
}


def values(model, devices):
    """The value of each metric by `<evaluator>/<metric>`, on a mesh of these devices."""
    built = evaluators.build(Settings(CONFIG, "config.evals"), model.context(devices=devices))
    return {
        f"{name}/{metric}": outcome.value
        for name, evaluator in built.items()
        for metric, outcome in evaluator.outcomes(model.state)
    }


if __name__ == "__main__":
    processes, index, port, devices = map(int, sys.argv[1:])
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices)
    jax.distributed.initialize(f"localhost:{port}", processes, index)
    from tests.evaluators import conftest

    data, model = conftest.make_world()
    conftest.install(data)
    assert jax.device_count() == devices * processes
    sys.stdout.write(json.dumps(values(model, jax.devices())) + "\n")

"""Runs every evaluator on the fake world and prints the values; see test_everywhere.py."""

import json
import os
import runpy
import sys
from pathlib import Path

import jax

processes, index, port, devices = map(int, sys.argv[1:])
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
jax.config.update("jax_platforms", "cpu")
if processes > 1:
    jax.distributed.initialize(f"localhost:{port}", processes, index)

fakes = runpy.run_path(str(Path(__file__).parents[1] / "evaluators" / "conftest.py"))
from clipa_jax import evaluators  # noqa: E402
from clipa_jax.config.settings import Settings  # noqa: E402

data, model = fakes["make_world"]()
fakes["install"](data)
held_out = {"source": "fake", "split": "heldout", "batch_size": 4}
config = {
    "zero_shot": {"type": "zero_shot", "label": "concept", "by": "group", **held_out},
    "retrieval": {"type": "retrieval", **held_out},
    "probe": {"type": "linear_probe", "label": "concept", "train_split": "train", **held_out},
    "contrastive": {"type": "contrastive", "candidates": 4, **held_out},
}
built = evaluators.build(Settings(config, "config.evals"), model.context())
values = {
    f"{name}/{metric}": value
    for name, evaluator in built.items()
    for metric, value in evaluator.run(model.state)
}
assert jax.device_count() == devices * processes
sys.stdout.write(json.dumps(values) + "\n")

"""Micro-batches change memory, not the result."""

import dataclasses
import re
from typing import Any

import jax
import numpy as np
import optax
import pytest

from clipa_jax import sharding, trees
from clipa_jax.errors import ConfigError
from tests.helpers import tiny

BATCH, MICRO = 64, 16
MESHES = {
    "dp": {"replica": 2, "fsdp": 4},
    "fsdp": {"fsdp": 8},
    "fsdp_tp": {"replica": 2, "fsdp": 2, "tensor": 2},
}


@dataclasses.dataclass
class Step:
    """One step of a tiny model with half of the patches masked, compiled and run."""

    metrics: dict[str, Any]
    grads: dict[str, np.ndarray]
    temporary: int  # bytes
    text: str  # what the compiler made of it


def step(mesh: jax.sharding.Mesh, microbatch: int | None, preset: str = "dp", **keys) -> Step:
    c = tiny.config(
        sharding__preset=preset,
        microbatch=microbatch,
        mask__ratio=0.5,
        input__batch_size=BATCH,
        **keys,
    )
    # An optimizer whose whole state is the last gradient, and whose update it is.
    spec = tiny.make_spec(c, mesh, optax.trace(decay=0.0))
    split = sharding.batch_sharding(mesh)
    batch = {name: jax.device_put(rows, split) for name, rows in tiny.batch(c).items()}
    lowered = tiny.update(c, spec, mesh, schedule=lambda _: np.float32(1)).lower(spec.shapes, batch)
    compiled = lowered.compile(compiler_options={"xla_backend_optimization_level": 0})
    now, metrics = compiled(spec.with_params(tiny.init(c)[1], seed=0), batch)
    return Step(
        jax.device_get(metrics),
        trees.flatten(jax.device_get(now.opt_state.trace)),
        compiled.memory_analysis().temp_size_in_bytes,
        compiled.as_text(),
    )


@pytest.fixture(scope="module")
def whole():
    return step(tiny.mesh(1), None)


def check_equal(one: Step, other: Step) -> None:
    assert set(one.metrics) == set(other.metrics)
    for name, value in other.metrics.items():
        np.testing.assert_allclose(one.metrics[name], value, rtol=1e-5, err_msg=name)
    for name, grad in other.grads.items():
        largest = max(np.abs(grad).max(), 1e-3 * other.metrics["l2_grads"])  # key/bias: zero
        difference = np.abs(one.grads[name] - grad).max()
        assert difference < 1e-5 * largest, name


def test_microbatches_give_the_same_update_in_less_memory(whole):
    parts = step(tiny.mesh(1), MICRO)
    check_equal(parts, whole)
    assert parts.temporary < 0.5 * whole.temporary


@pytest.mark.parametrize("preset", MESHES)
def test_microbatches_on_a_mesh_give_the_update_of_one_device(whole, preset):
    parts = step(sharding.make_mesh(**MESHES[preset]), MICRO, preset)
    check_equal(parts, whole)
    assert parts.temporary < 0.25 * whole.temporary
    # Every device has its share of each micro-batch: no picture leaves it.
    moves = r"(all-gather|all-to-all|all-reduce|collective-permute)(-start)?\("
    assert "u8[" in parts.text
    assert not [x for x in parts.text.splitlines() if re.search(moves, x) and "u8[" in x]


def test_microbatches_give_the_gradient_of_the_sigmoid_bias():
    keys = {"loss__name": "sigmoid", "model__bias_init": -3.0}
    one, parts = step(tiny.mesh(1), None, **keys), step(tiny.mesh(1), MICRO, **keys)
    check_equal(parts, one)
    assert one.grads["b"].shape == (1,) and abs(one.grads["b"][0]) > 1e-3


@pytest.mark.parametrize(
    ("size", "devices", "said"),
    [
        (24, 1, "microbatch 24 does not divide the batch of 64 .*nearest: 16"),
        (0, 1, "nearest: 1"),
        (12, 8, "into equal shares of 8 data-parallel devices; nearest: 8"),
    ],
)
def test_a_microbatch_that_does_not_divide_is_refused(size, devices, said):
    c = tiny.config(microbatch=size, input__batch_size=BATCH)
    mesh = tiny.mesh(devices)
    with pytest.raises(ConfigError, match=said):
        tiny.update(c, tiny.make_spec(c, mesh), mesh)

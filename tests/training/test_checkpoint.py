"""Checkpoints come back as they were."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipa_jax import trees
from clipa_jax.errors import CheckpointError
from clipa_jax.models import layout
from clipa_jax.training import checkpoint
from tests.helpers.checkpoints import (
    POSITION,
    assert_same,
    numbers,
    restore,
    save,
    spec,
    state,
    steps_in,
)


def test_a_restored_state_is_bit_equal(tmp_path):
    saved = state(spec(), step=5)
    save(tmp_path, saved)
    start = restore(tmp_path, spec())
    assert_same(start.state, saved)
    assert start.position == {**POSITION, "step": 5}
    assert start.lines == [f"resumes at step 5 from {tmp_path / 'checkpoints'}"]
    assert any(leaf.dtype == jnp.bfloat16 for leaf in numbers(saved).values())


def test_without_checkpoints_there_is_nothing_to_restore(tmp_path):
    assert restore(tmp_path, spec()) is None


@pytest.mark.parametrize(
    ("layers", "devices", "preset", "tensor"),
    [
        ("unrolled", 8, "fsdp", 1),
        ("unrolled", 8, "fsdp_tp", 2),
        ("scanned", 1, "dp", 1),
        ("scanned", 4, "fsdp_tp", 2),
    ],
)
def test_a_checkpoint_restores_on_another_mesh_or_layout(tmp_path, layers, devices, preset, tensor):
    other = spec(layers, devices, preset, tensor)
    there, back = tmp_path / "there", tmp_path / "back"
    saved = state(spec(), step=5)
    save(there, saved)
    moved = restore(there, other).state
    assert_same(moved, saved)
    assert jax.tree.structure(moved) == jax.tree.structure(other.shapes)
    for leaf, expected in zip(
        jax.tree.leaves(moved), jax.tree.leaves(other.shardings), strict=True
    ):
        assert leaf.sharding == expected
    split = [leaf for leaf in jax.tree.leaves(moved.params) if not leaf.is_fully_replicated]
    assert bool(split) == (devices > 1)

    save(back, moved)
    assert_same(restore(back, spec()).state, saved)


def test_the_newest_checkpoint_is_restored(tmp_path):
    save(tmp_path, *(state(spec(), step) for step in (9, 10)))
    assert int(restore(tmp_path, spec()).state.step) == 10


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        ({}, [3, 4]),
        ({"keep_last": 3}, [2, 3, 4]),
        ({"keep_last": 1, "keep_every": 2}, [2, 4]),
    ],
)
def test_old_checkpoints_are_deleted(tmp_path, keep, left):
    one = state(spec(), step=0)
    states = [dataclasses.replace(one, step=jnp.asarray(n, jnp.int32)) for n in range(1, 5)]
    save(tmp_path, *states, **keep)
    assert steps_in(tmp_path) == left


def test_a_step_is_saved_once(tmp_path):
    first, second = (state(spec(), step=5, seed=seed) for seed in (0, 1))
    save(tmp_path, first, second)
    assert_same(restore(tmp_path, spec()).state, first)


@pytest.mark.parametrize("layers", ["unrolled", "scanned"])
def test_weights_are_read_by_name_with_layers_unrolled(tmp_path, layers):
    states = [state(spec(layers), step, seed=step) for step in (1, 2)]
    save(tmp_path, *states)
    for step, expected in [(1, states[0]), (2, states[1]), (None, states[1])]:
        weights = checkpoint.read_params(str(tmp_path), step)
        unrolled = trees.flatten(layout.unroll(expected.params))
        assert set(weights) == set(unrolled)
        assert "img/Transformer/encoderblock_1/Dense_0/kernel" in weights
        for name, leaf in weights.items():
            assert isinstance(leaf, np.ndarray)
            np.testing.assert_array_equal(leaf, np.asarray(unrolled[name]))


def test_reading_weights_without_a_checkpoint_is_an_error(tmp_path):
    save(tmp_path)
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        checkpoint.read_params(str(tmp_path))

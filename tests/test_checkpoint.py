"""Checkpoints come back as they were, and where a run starts."""

import dataclasses
import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from clipa_jax import checkpoint, trees
from clipa_jax.errors import CheckpointError
from clipa_jax.models import layout

POSITION = {"data": {"epoch": 1, "next": 48, "skipped": {}}, "seconds": 12.5}


@functools.cache
def plan(layers="unrolled", devices=1, preset="dp", tensor=1):
    config = tiny.config(
        model__layers=layers,
        sharding__preset=preset,
        model__image__depth=2,
        model__text__depth=2,
    )
    return tiny.plan(config, tiny.mesh(devices, tensor=tensor))


def state(plan, step, seed=0):
    """A state whose every number is random, the moments of Adam included."""
    rng = np.random.default_rng(seed)
    made = plan.init(seed)

    def noise(leaf):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf + step
        return jax.device_put(jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), leaf.sharding)

    moved = {"params": made.params, "opt_state": made.opt_state, "step": made.step}
    return dataclasses.replace(made, **jax.tree.map(noise, moved))


def numbers(state):
    """Every leaf by name, layers unrolled, on the host."""
    return trees.flatten(
        {
            "params": layout.unroll(state.params),
            "opt": layout.unroll(state.opt_state),
            "step": np.asarray(state.step),
            "rng": np.asarray(jax.random.key_data(state.rng)),
        }
    )


def assert_same(got, expected):
    got, expected = numbers(got), numbers(expected)
    assert set(got) == set(expected)
    for name, leaf in expected.items():
        assert got[name].dtype == leaf.dtype, name
        np.testing.assert_array_equal(np.asarray(got[name]), np.asarray(leaf), err_msg=name)


def save(folder, *states, **keep):
    checkpoints = checkpoint.Checkpoints(str(folder), **keep)
    for one in states:
        checkpoints.save(one, {**POSITION, "step": int(one.step)})
    checkpoints.close()


def restore(folder, plan):
    checkpoints = checkpoint.Checkpoints(str(folder))
    try:
        return checkpoints.restore_last(plan)
    finally:
        checkpoints.close()


def steps_in(folder):
    return sorted(int(f.name) for f in (folder / "checkpoints").iterdir())


def damage(folder, step):
    """Empties every data file of a checkpoint, as a full disk does."""
    files = [f for f in (folder / "checkpoints" / str(step)).rglob("*") if "d" in f.parts[-2:-1]]
    assert files
    for file in files:
        file.write_bytes(b"")


def first_state(folder, plan, **given):
    checkpoints = checkpoint.Checkpoints(str(folder))
    arguments = {"seed": 7, "init": "", "edits": (), "read_weights": never, **given}
    try:
        return checkpoint.first_state(checkpoints, plan, **arguments)
    finally:
        checkpoints.close()


def never(*_):
    raise AssertionError("no weights are to be read")


def test_a_restored_state_is_equal_to_the_bit(tmp_path):
    saved = state(plan(), step=5)
    save(tmp_path, saved)
    start = restore(tmp_path, plan())
    assert_same(start.state, saved)
    assert start.position == {**POSITION, "step": 5}
    assert start.lines == [f"resumes at step 5 from {tmp_path / 'checkpoints'}"]
    assert any(leaf.dtype == jnp.bfloat16 for leaf in numbers(saved).values())


def test_without_checkpoints_there_is_nothing_to_restore(tmp_path):
    assert restore(tmp_path, plan()) is None


@pytest.mark.parametrize(
    ("layers", "devices", "preset", "tensor"),
    [
        ("unrolled", 8, "fsdp", 1),
        ("unrolled", 8, "fsdp_tp", 2),
        ("scanned", 1, "dp", 1),
        ("scanned", 4, "fsdp_tp", 2),
    ],
)
def test_another_mesh_or_layout_may_go_on(tmp_path, layers, devices, preset, tensor):
    other = plan(layers, devices, preset, tensor)
    there, back = tmp_path / "there", tmp_path / "back"
    saved = state(plan(), step=5)
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
    assert_same(restore(back, plan()).state, saved)


def test_the_newest_checkpoint_is_taken(tmp_path):
    save(tmp_path, *(state(plan(), step) for step in (9, 10)))
    assert int(restore(tmp_path, plan()).state.step) == 10


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, caplog):
    before = state(plan(), step=5, seed=1)
    save(tmp_path, before, state(plan(), step=10, seed=2))
    damage(tmp_path, 10)
    start = restore(tmp_path, plan())
    assert_same(start.state, before)
    assert start.position["step"] == 5
    said = [r.getMessage() for r in caplog.records if "cannot be read" in r.getMessage()]
    assert len(said) == 1
    assert f"the checkpoint of step 10 in {tmp_path / 'checkpoints'} cannot be read" in said[0]


def test_a_checkpoint_without_its_weights_counts_as_damaged(tmp_path):
    save(tmp_path, state(plan(), step=5), state(plan(), step=10))
    shutil.rmtree(tmp_path / "checkpoints" / "10" / "params")
    assert int(restore(tmp_path, plan()).state.step) == 5


def test_a_damaged_checkpoint_is_replaced_when_its_step_comes_again(tmp_path):
    save(tmp_path, state(plan(), step=5), state(plan(), step=10))
    damage(tmp_path, 10)
    checkpoints = checkpoint.Checkpoints(str(tmp_path))
    assert int(checkpoints.restore_last(plan()).state.step) == 5
    between, again = state(plan(), step=7, seed=3), state(plan(), step=10, seed=4)
    checkpoints.save(between, POSITION)
    checkpoints.close()
    assert_same(restore(tmp_path, plan()).state, between)

    checkpoints = checkpoint.Checkpoints(str(tmp_path))
    checkpoints.restore_last(plan())
    checkpoints.save(again, POSITION)
    checkpoints.close()
    assert_same(restore(tmp_path, plan()).state, again)


def test_when_none_can_be_read_the_run_stops(tmp_path):
    save(tmp_path, state(plan(), step=5), state(plan(), step=10))
    for step in (5, 10):
        damage(tmp_path, step)
    with pytest.raises(CheckpointError, match=r"none of the checkpoints \[10, 5\] in .*Move the"):
        restore(tmp_path, plan())
    assert steps_in(tmp_path) == [5, 10]


def test_a_checkpoint_of_another_model_is_not_taken(tmp_path):
    save(tmp_path, state(plan(), step=5))
    wider = tiny.plan(tiny.config(model__image__mlp_dim=48), tiny.mesh())
    with pytest.raises(CheckpointError, match=r"none of the checkpoints \[5\]"):
        restore(tmp_path, wider)


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        ({}, [5, 6]),
        ({"keep_last": 1}, [6]),
        ({"keep_last": 3}, [4, 5, 6]),
        ({"keep_last": 1, "keep_every": 2}, [2, 4, 6]),
    ],
)
def test_old_checkpoints_go(tmp_path, keep, left):
    one = state(plan(), step=0)
    states = [dataclasses.replace(one, step=jnp.asarray(n, jnp.int32)) for n in range(1, 7)]
    save(tmp_path, *states, **keep)
    assert steps_in(tmp_path) == left


def test_a_step_is_saved_once(tmp_path):
    first, second = (state(plan(), step=5, seed=seed) for seed in (0, 1))
    save(tmp_path, first, second)
    assert_same(restore(tmp_path, plan()).state, first)


@pytest.mark.parametrize("layers", ["unrolled", "scanned"])
def test_weights_are_read_by_name_with_layers_unrolled(tmp_path, layers):
    states = [state(plan(layers), step, seed=step) for step in (1, 2)]
    save(tmp_path, *states)
    for step, expected in [(1, states[0]), (2, states[1]), (None, states[1])]:
        weights = checkpoint.read_params(str(tmp_path), step)
        unrolled = trees.flatten(layout.unroll(expected.params))
        assert set(weights) == set(unrolled)
        assert "img/Transformer/encoderblock_1/MlpBlock_0/Dense_0/kernel" in weights
        for name, leaf in weights.items():
            assert isinstance(leaf, np.ndarray)
            np.testing.assert_array_equal(leaf, np.asarray(unrolled[name]))


def test_reading_weights_where_there_are_none(tmp_path):
    save(tmp_path)
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        checkpoint.read_params(str(tmp_path))


def test_from_scratch(tmp_path):
    start = first_state(tmp_path, plan())
    assert_same(start.state, plan().init(7))
    assert (start.position, start.lines) == ({}, ["starts from scratch"])


@pytest.mark.parametrize("layers", ["unrolled", "scanned"])
def test_init_gives_the_weights_and_nothing_else(tmp_path, layers):
    given = trees.flatten(layout.unroll(state(plan(), step=5).params))
    asked = []

    def read_weights(init, target):
        asked.append((init, set(target)))
        return {name: np.asarray(leaf, np.float64) for name, leaf in given.items()}

    start = first_state(tmp_path, plan(layers), init="some.npz", read_weights=read_weights)
    assert asked == [("some.npz", set(given))]
    got, fresh = numbers(start.state), numbers(plan(layers).init(7))
    for name, leaf in got.items():
        expected = given[name.removeprefix("params/")] if "params" in name else fresh[name]
        assert leaf.dtype == fresh[name].dtype
        np.testing.assert_array_equal(np.asarray(leaf), np.asarray(expected), err_msg=name)
    assert start.position == {}
    assert start.lines == ["starts from the weights in some.npz, optimiser fresh, step 0"]


def test_init_goes_through_surgery(tmp_path):
    given = trees.flatten(layout.unroll(state(plan(), step=5).params))
    given["txt/pos_embedding"] = given["txt/pos_embedding"][:, :2]
    del given["img/head/kernel"]
    arguments = {"init": "some.npz", "read_weights": lambda *_: given}
    with pytest.raises(CheckpointError, match=r"img/head/kernel: missing.*shape \(1, 2, 16\)"):
        first_state(tmp_path, plan(), **arguments)
    edits = ("text_positions", "fresh:img/head/.*")
    start = first_state(tmp_path, plan(), edits=edits, **arguments)
    assert start.state.params["txt"]["pos_embedding"].shape == (1, 4, 16)
    np.testing.assert_array_equal(
        start.state.params["img"]["head"]["kernel"],
        plan().init(7).params["img"]["head"]["kernel"],
    )
    assert len(start.lines) >= 3
    assert "txt/pos_embedding: (1, 2, 16) -> (1, 4, 16)" in start.lines


def test_an_own_checkpoint_comes_before_init(tmp_path):
    saved = state(plan(), step=5)
    save(tmp_path, saved)
    start = first_state(tmp_path, plan(), init="some.npz", edits=("text_positions",))
    assert_same(start.state, saved)
    assert start.position["step"] == 5

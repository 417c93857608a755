"""Checkpoints come back as they were, and where a run starts."""

import asyncio
import dataclasses
import errno
import functools
import math
import os
import resource
import shutil
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from clipa_jax import sharding, trees
from clipa_jax.config.settings import Settings
from clipa_jax.errors import CheckpointError
from clipa_jax.models import layout
from clipa_jax.training import checkpoint
from clipa_jax.training import state as states

# Orbax's reader threads complain when a read of a damaged file is given up.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

POSITION = {"data": {"epoch": 1, "next": 48, "skipped": {}}, "seconds": 12.5}


class Stub:
    """Stands for a model: few parameters, so that nothing takes long to compile."""

    def __init__(self, layers="unrolled", width=8):
        self.scanned, self.width = layers == "scanned", width

    def init(self, key, image, tokens):
        del image, tokens
        seed = jax.random.key_data(key)[-1] % 97  # cheaper to compile than random numbers

        def draw(i, *shape):
            return (jnp.arange(math.prod(shape), dtype=jnp.float32) + seed + i).reshape(shape)

        kernels = [draw(i, self.width, 32) for i in range(2)]
        layers = {f"encoderblock_{i}": {"Dense_0": {"kernel": k}} for i, k in enumerate(kernels)}
        if self.scanned:
            layers = {"encoderblock": {"Dense_0": {"kernel": jnp.stack(kernels)}}}
        img = {"Transformer": layers, "head": {"kernel": draw(2, 8, 16)}}
        return {"params": {"img": img, "txt": {"pos_embedding": draw(3, 1, 4, 8)}, "t": draw(4, 1)}}


@functools.cache
def spec(layers="unrolled", devices=1, preset="dp", tensor=1, width=8):
    batch = {
        "image": jax.ShapeDtypeStruct((8, 8, 8, 3), np.uint8),
        "tokens": jax.ShapeDtypeStruct((8, 4), np.int32),
    }
    tx = optax.adamw(1e-3, mu_dtype=jnp.bfloat16)
    mesh = sharding.make_mesh(tensor=tensor, devices=jax.devices()[:devices])
    layout_of = Settings({"preset": preset, "rules": ()}, "config.sharding")
    return states.make_spec(Stub(layers, width), tx, batch, mesh, layout_of)


def state(spec, step, seed=0):
    """A state whose every number is random, the moments of Adam included."""
    rng = np.random.default_rng(seed)

    def fill(leaf):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return jax.device_put(rng.normal(size=leaf.shape).astype(leaf.dtype), leaf.sharding)
        return jax.device_put(np.full(leaf.shape, step, leaf.dtype), leaf.sharding)

    shapes = spec.shapes
    key = jax.device_put(jax.random.key(seed), shapes.rng.sharding)
    filled = [jax.tree.map(fill, tree) for tree in (shapes.step, shapes.params, shapes.opt_state)]
    return states.TrainState(*filled, key)


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


def restore(folder, spec):
    checkpoints = checkpoint.Checkpoints(str(folder))
    try:
        return checkpoints.restore_last(spec)
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


def first_state(folder, spec, **given):
    checkpoints = checkpoint.Checkpoints(str(folder))
    arguments = {"seed": 7, "init": "", "edits": (), "open_weights": never, **given}
    try:
        return checkpoint.first_state(checkpoints, spec, **arguments)
    finally:
        checkpoints.close()


def never(path):
    raise AssertionError(f"{path} is opened")


class Weights:
    """Weights at a path that any path stands for."""

    def __init__(self, leaves):
        self.leaves, self.opened, self.shapes = leaves, [], None

    def open(self, path):
        self.opened.append(path)
        return self

    def read_like(self, shapes):
        self.shapes = shapes
        return self.leaves


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


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, caplog):
    before = state(spec(), step=5, seed=1)
    save(tmp_path, before, state(spec(), step=10, seed=2))
    damage(tmp_path, 10)
    start = restore(tmp_path, spec())
    assert_same(start.state, before)
    assert start.position["step"] == 5
    said = [r.getMessage() for r in caplog.records if "cannot be read" in r.getMessage()]
    assert len(said) == 1
    assert f"the checkpoint of step 10 in {tmp_path / 'checkpoints'} cannot be read" in said[0]


def _cut(step):
    """Half of the largest file is gone."""
    file = _largest(step)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _turn_a_bit(step):
    file = _largest(step)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(content)


def _largest(step):
    return max((f for f in step.rglob("*") if f.is_file()), key=lambda file: file.stat().st_size)


@pytest.mark.parametrize(
    "harm",
    [
        _cut,
        _turn_a_bit,
        lambda step: shutil.rmtree(step / "params"),
        lambda step: shutil.rmtree(step / "train"),
        lambda step: shutil.rmtree(step / "position"),
        lambda step: (step / "params" / "_METADATA").unlink(),
        lambda step: (step / "train" / "_METADATA").write_text('{"tree_meta'),
        lambda step: (step / "position" / "metadata").write_text('{"data": {"ep'),
        lambda step: (step / "params" / "manifest.ocdbt").write_bytes(b"\x93garbage" * 20),
    ],
    ids=["cut", "bit", "params", "train", "position", "metadata", "torn", "json", "garbage"],
)
def test_any_damage_falls_back_to_the_checkpoint_before(tmp_path, harm, caplog):
    wide = spec(width=64)
    before = state(wide, step=5)
    save(tmp_path, before, state(wide, step=10, seed=1))
    harm(tmp_path / "checkpoints" / "10")
    start = restore(tmp_path, wide)
    assert_same(start.state, before)
    assert start.position["step"] == 5
    said = [record.getMessage() for record in caplog.records if "step 10" in record.getMessage()]
    assert len(said) == 1 and "cannot be read, trying the one before it" in said[0]


class Held:
    """Holds Orbax's background write until it is let go, or makes it fail."""

    def __init__(self, monkeypatch, error=None):
        self.go, self.error = threading.Event(), error
        write = ocp.JsonCheckpointHandler._save_fn

        async def held(handler, content, folder):
            while not self.go.is_set():
                await asyncio.sleep(0.005)
            if self.error:
                raise self.error
            await write(handler, content, folder)

        monkeypatch.setattr(ocp.JsonCheckpointHandler, "_save_fn", held)


def test_saving_does_not_wait_for_the_file_system_but_closing_does(tmp_path, monkeypatch):
    held = Held(monkeypatch)
    checkpoints = checkpoint.Checkpoints(str(tmp_path))
    checkpoints.save(state(spec(), step=5), POSITION)
    checkpoints.check()
    (begun,) = (tmp_path / "checkpoints").iterdir()
    assert begun.name != "5"
    threading.Timer(0.2, held.go.set).start()
    checkpoints.close()
    assert steps_in(tmp_path) == [5]
    assert restore(tmp_path, spec()).position == POSITION


@pytest.mark.parametrize("notices", ["check", "close", "save"])
def test_a_failed_background_write_raises_an_error(tmp_path, monkeypatch, notices):
    saved = state(spec(), step=5)
    save(tmp_path, saved)
    held = Held(monkeypatch, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    checkpoints = checkpoint.Checkpoints(str(tmp_path))
    checkpoints.save(state(spec(), step=10), POSITION)
    held.go.set()
    again = {
        "check": lambda: [time.sleep(0.01) or checkpoints.check() for _ in range(1000)],
        "close": checkpoints.close,
        "save": lambda: checkpoints.save(state(spec(), step=15), POSITION),
    }
    with pytest.raises(CheckpointError) as caught:
        again[notices]()
    for fact in ("step 10", str(tmp_path / "checkpoints"), "No space left on device"):
        assert fact in str(caught.value)
    monkeypatch.undo()
    assert_same(restore(tmp_path, spec()).state, saved)


def test_a_file_size_limit_raises_an_error_and_keeps_earlier_checkpoints(tmp_path):
    """As on a full disk: the writes of Orbax itself fail."""
    wide = spec(width=64)
    saved = state(wide, step=5)
    save(tmp_path, saved)
    checkpoints = checkpoint.Checkpoints(str(tmp_path))
    large = state(wide, step=10)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(
            CheckpointError, match=r"of step 10 cannot be written to .*: File too large"
        ):
            checkpoints.save(large, POSITION)
            checkpoints.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_same(restore(tmp_path, wide).state, saved)


def test_a_damaged_checkpoint_is_overwritten_at_the_same_step(tmp_path):
    save(tmp_path, state(spec(), step=5), state(spec(), step=10))
    damage(tmp_path, 10)
    checkpoints = checkpoint.Checkpoints(str(tmp_path))
    assert int(checkpoints.restore_last(spec()).state.step) == 5
    between, again = state(spec(), step=7, seed=3), state(spec(), step=10, seed=4)
    checkpoints.save(between, POSITION)
    checkpoints.close()
    assert_same(restore(tmp_path, spec()).state, between)

    checkpoints = checkpoint.Checkpoints(str(tmp_path))
    checkpoints.restore_last(spec())
    checkpoints.save(again, POSITION)
    checkpoints.close()
    assert_same(restore(tmp_path, spec()).state, again)


def test_only_damaged_checkpoints_stop_the_run(tmp_path):
    save(tmp_path, state(spec(), step=5), state(spec(), step=10))
    for step in (5, 10):
        damage(tmp_path, step)
    with pytest.raises(CheckpointError, match=r"none of the checkpoints \[10, 5\] in .*Move the"):
        restore(tmp_path, spec())
    assert steps_in(tmp_path) == [5, 10]


def test_a_checkpoint_of_another_model_is_not_called_damaged(tmp_path, caplog):
    save(tmp_path, state(spec(), step=5))
    with pytest.raises(CheckpointError) as caught:
        restore(tmp_path, spec(width=16))
    kernel = "params/img/Transformer/encoderblock_{}/Dense_0/kernel"
    for fact in (
        "step 5",
        *(f"{kernel.format(i)} is float32 (8, 32) in the checkpoint" for i in range(2)),
        "float32 (16, 32) in the config",
        " and 3 more",
        f"--config.init={tmp_path}",
    ):
        assert fact in str(caught.value)
    assert "cannot be read" not in caplog.text
    assert steps_in(tmp_path) == [5]


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


def test_a_full_disk_is_refused_before_any_work(tmp_path, monkeypatch):
    def usage(folder):
        assert str(folder) == str(tmp_path / "checkpoints")
        return shutil._ntuple_diskusage(10**9, 10**9 - free, free)

    monkeypatch.setattr(checkpoint.shutil, "disk_usage", usage)
    # Float32 weights and second moments, first moments in bfloat16, and two counts of steps.
    weights = 2 * 8 * 32 + 8 * 16 + 4 * 8 + 1
    free = weights * 10 + 4 - 1
    with pytest.raises(CheckpointError, match=r"takes 0\.0 GB, and .* has 0\.0 GB left; "):
        first_state(tmp_path, spec())
    free += 1
    assert first_state(tmp_path, spec()).lines == ["starts from scratch"]


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


@pytest.mark.parametrize("harm", [_cut, _turn_a_bit])
def test_reading_damaged_weights_is_an_error(tmp_path, harm):
    save(tmp_path, state(spec(width=64), step=5))
    harm(tmp_path / "checkpoints" / "5" / "params")
    with pytest.raises(CheckpointError, match="the weights of step 5 in .* cannot be read: "):
        checkpoint.read_params(str(tmp_path))


def test_reading_weights_without_a_checkpoint_is_an_error(tmp_path):
    save(tmp_path)
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        checkpoint.read_params(str(tmp_path))


def test_without_init_the_state_starts_from_scratch(tmp_path):
    start = first_state(tmp_path, spec())
    assert_same(start.state, spec().init(7))
    assert (start.position, start.lines) == ({}, ["starts from scratch"])


@pytest.mark.parametrize("layers", ["unrolled", "scanned"])
def test_init_gives_the_weights_and_nothing_else(tmp_path, layers):
    given = trees.flatten(layout.unroll(state(spec(), step=5).params))
    weights = Weights({name: np.asarray(leaf, np.float64) for name, leaf in given.items()})
    start = first_state(tmp_path, spec(layers), init="some.npz", open_weights=weights.open)
    assert weights.opened == ["some.npz"] and set(weights.shapes) == set(given)
    got, fresh = numbers(start.state), numbers(spec(layers).init(7))
    for name, leaf in got.items():
        expected = given[name.removeprefix("params/")] if "params" in name else fresh[name]
        assert leaf.dtype == fresh[name].dtype
        np.testing.assert_array_equal(np.asarray(leaf), np.asarray(expected), err_msg=name)
    assert start.position == {}
    assert start.lines == ["starts from the weights in some.npz, optimizer fresh, step 0"]


def test_init_goes_through_surgery(tmp_path):
    given = trees.flatten(layout.unroll(state(spec(), step=5).params))
    given["txt/pos_embedding"] = given["txt/pos_embedding"][:, :2]
    del given["img/head/kernel"]
    arguments = {"init": "some.npz", "open_weights": Weights(given).open}
    with pytest.raises(CheckpointError, match=r"img/head/kernel: missing.*shape \(1, 2, 8\)"):
        first_state(tmp_path, spec(), **arguments)
    edits = ("text_positions", "fresh:img/head/.*")
    start = first_state(tmp_path, spec(), edits=edits, **arguments)
    assert start.state.params["txt"]["pos_embedding"].shape == (1, 4, 8)
    np.testing.assert_array_equal(
        start.state.params["img"]["head"]["kernel"],
        spec().init(7).params["img"]["head"]["kernel"],
    )
    assert len(start.lines) >= 3
    assert "txt/pos_embedding: (1, 2, 8) -> (1, 4, 8)" in start.lines


def test_a_checkpoint_of_the_stage_takes_precedence_over_init(tmp_path):
    saved = state(spec(), step=5)
    save(tmp_path, saved)
    start = first_state(tmp_path, spec(), init="some.npz", edits=("text_positions",))
    assert_same(start.state, saved)
    assert start.position["step"] == 5

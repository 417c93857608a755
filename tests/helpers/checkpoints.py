"""Small states, their checkpoints, and ways to harm these."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax

from clipa_jax import sharding, trees
from clipa_jax.config.settings import Settings
from clipa_jax.models import layout
from clipa_jax.training import checkpoint
from clipa_jax.training import state as states

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


def cut(step):
    """Half of the largest file is gone."""
    file = largest(step)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def turn_a_bit(step):
    file = largest(step)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(content)


def largest(step):
    return max((f for f in step.rglob("*") if f.is_file()), key=lambda file: file.stat().st_size)


def first_state(folder, spec, **given):
    checkpoints = checkpoint.Checkpoints(str(folder))
    arguments = {"seed": 7, "init": "", "edits": (), "open_weights": never, **given}
    try:
        return checkpoint.first_state(checkpoints, spec, **arguments)
    finally:
        checkpoints.close()


def never(path):
    raise AssertionError(f"{path} is opened")

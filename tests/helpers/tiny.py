"""A model that compiles in a second, and what training it needs."""

import functools
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from clipa_jax import losses, models, sharding, trees
from clipa_jax.config import durations, schema
from clipa_jax.config.settings import Settings
from clipa_jax.training import gradients, metrics, optim, state, steps

# Compiles in half the time into slower code; not where recorded numbers are at stake.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def config(**overrides: Any) -> ConfigDict:
    """A stage's config; `model__layers="scanned"` overrides `model.layers`."""
    c = schema.default()
    c.model.size = "S/4"
    c.model.embed_dim = 8
    for tower in (c.model.image, c.model.text):
        tower.update(width=16, depth=1, mlp_dim=32, num_heads=2)
    c.model.text.vocab_size = 32
    c.input.batch_size = 16
    c.input.res = 16
    c.input.text_len = 4
    c.total_steps = 20
    c.warmup_steps = 2
    c.optim.lr_per_256 = 0.16
    c.update_from_flattened_dict({key.replace("__", "."): x for key, x in overrides.items()})
    return c


def logs(**keys: Any) -> metrics.Logs:
    """The default destinations of metrics, with other values for some keys."""
    return Settings({**schema.logs(), **keys}).call(metrics.Logs, skip=("compare",))


def batch(c: ConfigDict, seed: int = 0) -> dict[str, np.ndarray]:
    """A batch of random pictures and tokens."""
    rng = np.random.default_rng(seed)
    rows, res = c.input.batch_size, c.input.res
    return {
        "image": rng.integers(0, 256, (rows, res, res, 3), np.uint8),
        "tokens": rng.integers(
            0, c.model.text.vocab_size, (rows, c.input.text_len), dtype=np.int32
        ),
    }


def make_spec(
    c: ConfigDict, mesh: jax.sharding.Mesh, tx: optax.GradientTransformation | None = None
) -> state.StateSpec:
    """The state's spec, with the config's optimizer unless `tx` is given."""
    settings = Settings(c)
    shapes = {name: jax.ShapeDtypeStruct(rows.shape, rows.dtype) for name, rows in batch(c).items()}
    model = models.build(settings.model)
    if tx is not None:
        return state.make_spec(model, tx, shapes, mesh, settings.sharding)
    built = optimizer(c)
    return state.make_spec(model, built.tx, shapes, mesh, settings.sharding, built.partition)


def compiled_update(*arguments: Any) -> jax.stages.Compiled:
    """`update`, compiled in half the time into slower code; not where numbers are recorded."""
    spec, mesh = arguments[1:3]
    split = sharding.batch_sharding(mesh)
    batch = {
        name: jax.ShapeDtypeStruct(rows.shape, rows.dtype, sharding=split)
        for name, rows in spec.batch.items()
    }
    options = {"xla_backend_optimization_level": 0}
    return update(*arguments).lower(spec.shapes, batch).compile(compiler_options=options)


def update(
    c: ConfigDict, spec: state.StateSpec, mesh: jax.sharding.Mesh, schedule: Any = None
) -> jax.stages.Wrapped:
    """The step of a config around any optimizer, with its own schedule unless one is given."""
    return steps.make_update(
        spec,
        mesh,
        gradients.build(
            spec, mesh, losses.build(c.loss.name, mesh, c.loss.duplicates), c.microbatch
        ),
        steps.Mask.build(Settings(c.mask)),
        optimizer(c).schedule if schedule is None else schedule,
        on_nonfinite=c.on_nonfinite,
    )


def optimizer(c: ConfigDict) -> optim.Optimizer:
    settings = Settings(c)
    steps = durations.resolve(settings, batch_size=c.input.batch_size, num_examples=None)
    model = models.build(settings.model)
    params = state.param_shapes(model, c.input.res, c.input.text_len)
    return optim.build(settings.optim, steps, params)


def mesh(devices: int = 1, **axes: int) -> jax.sharding.Mesh:
    """A mesh over the first few devices."""
    return sharding.make_mesh(**axes, devices=jax.devices()[:devices])


def init(c: ConfigDict, seed: int = 0) -> tuple[models.CLIP, Any]:
    """(the model, random parameters of which none is trivial); quicker than its own."""
    rng = np.random.default_rng(seed)
    model = models.build(Settings(c.model))

    def draw(name: str, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        noise = rng.normal(size=leaf.shape).astype(np.float32)
        if name == "t":
            return np.log([10.0]).astype(np.float32)
        fan_in = leaf.size // leaf.shape[-1] if name.endswith("kernel") else 25
        return noise / fan_in**0.5 + np.float32(name.endswith("scale"))

    return model, trees.map_with_names(
        draw, state.param_shapes(model, c.input.res, c.input.text_len)
    )

"""The training state, and its shapes and shardings, known before any memory is allocated."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from clipa_jax import sharding
from clipa_jax.config.batch import IMAGE, TOKENS
from clipa_jax.config.settings import Settings
from clipa_jax.models import CLIP
from clipa_jax.training.partition import ALL_TRAINABLE, Partition


@flax.struct.dataclass
class TrainState:
    """The state of a run at a step; with the data position, all that resuming needs."""

    step: Any  # int32 (), updates done
    params: Any
    opt_state: Any  # of the optax chain
    rng: Any  # key of the run; step i uses `fold_in(rng, i)`


@dataclass(frozen=True)
class StateSpec:
    """Shapes and shardings of a `TrainState`, and its initialization."""

    model: CLIP
    tx: optax.GradientTransformation
    partition: Partition
    batch: dict[str, jax.ShapeDtypeStruct]  # shapes of the global batch
    shapes: TrainState  # of `jax.ShapeDtypeStruct` with shardings
    shardings: TrainState  # of `NamedSharding`

    def init(self, seed: int) -> TrainState:
        """A fresh state, created with its shardings."""
        return self._compiled_init(jax.random.key(seed))

    @functools.cached_property
    def _compiled_init(self) -> Callable[[jax.Array], TrainState]:
        return jax.jit(self._init, out_shardings=self.shardings)

    def with_params(self, params: Any, seed: int) -> TrainState:
        """A state at step 0 with the given parameters."""
        params = jax.tree.map(jax.device_put, params, self.shardings.params)
        init = jax.jit(self._init_with, out_shardings=self.shardings)
        return init(params, jax.random.key(seed))

    def bytes_per_device(self) -> int:
        """Memory of one device for the state."""
        total = 0
        for leaf in jax.tree.leaves(self.shapes):
            # A JAX key is two 32-bit words.
            is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            size = 8 if is_key else leaf.dtype.itemsize
            total += math.prod(leaf.sharding.shard_shape(leaf.shape)) * size
        return total

    def _init(self, key: jax.Array) -> TrainState:
        return self._init_with(init_params(self.model, self.batch, key), key)

    def _init_with(self, params: Any, key: jax.Array) -> TrainState:
        step, opt_state = jnp.zeros((), jnp.int32), self.tx.init(self.partition.trainable(params))
        return TrainState(step, params, opt_state, jax.random.fold_in(key, 1))


def init_params(model: CLIP, batch: dict[str, jax.ShapeDtypeStruct], key: jax.Array) -> Any:
    """The model's initial parameters, traced with one example."""
    image = jnp.zeros((1, *batch[IMAGE].shape[1:]), jnp.float32)
    tokens = jnp.zeros((1, *batch[TOKENS].shape[1:]), jnp.int32)
    return model.init(jax.random.fold_in(key, 0), image, tokens)["params"]


def param_shapes(model: CLIP, res: int, text_len: int) -> Any:
    """Shapes of the parameters of a model for images of `res` pixels and `text_len` tokens."""
    batch = {
        IMAGE: jax.ShapeDtypeStruct((1, res, res, 3), jnp.uint8),
        TOKENS: jax.ShapeDtypeStruct((1, text_len), jnp.int32),
    }
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(lambda key: init_params(model, batch, key), key)


def make_spec(
    model: CLIP,
    tx: optax.GradientTransformation,
    batch: dict[str, jax.ShapeDtypeStruct],
    mesh: Mesh,
    config: Settings,
    partition: Partition = ALL_TRAINABLE,
) -> StateSpec:
    """Shapes and shardings of the state, by the `sharding` section; allocates nothing.

    `batch` has the shapes of the global batch.
    """
    draft = StateSpec(model, tx, partition, batch, None, None)  # type: ignore[arg-type]
    shapes = jax.eval_shape(draft._init, jax.eval_shape(lambda: jax.random.key(0)))
    params = sharding.param_shardings(shapes.params, mesh, config)
    trainable = partition.trainable(_with_shardings(shapes.params, params))
    replicated = sharding.replicated(mesh)
    shardings = TrainState(
        step=replicated,
        params=params,
        opt_state=optax.tree_utils.tree_map_params(
            tx,
            lambda _, layout: layout,
            shapes.opt_state,
            jax.tree.map(lambda leaf: leaf.sharding, trainable),
            transform_non_params=lambda _: replicated,
        ),
        rng=replicated,
    )
    shapes = _with_shardings(shapes, shardings)
    return StateSpec(model, tx, partition, batch, shapes, shardings)


def _with_shardings(shapes: Any, shardings: Any) -> Any:
    return jax.tree.map(
        lambda leaf, layout: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=layout),
        shapes,
        shardings,
    )

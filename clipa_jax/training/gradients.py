"""Gradients of a loss over the global batch, at once or from micro-batches in less memory.

B global batch, N samples of a micro-batch, E embedding.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from clipa_jax import sharding
from clipa_jax.config.batch import CAPTION_HASH, IMAGE, TOKENS
from clipa_jax.errors import ConfigError
from clipa_jax.losses import Loss, Metrics
from clipa_jax.models import CLIP
from clipa_jax.training.state import StateSpec

# Keys and shapes are in `config.batch`.
Batch = dict[str, jax.Array]
# (params, batch, keep_BK) -> ((loss, metrics), gradients of the trainable parameters)
Gradients = Callable[[Any, Batch, jax.Array | None], tuple[tuple[jax.Array, Metrics], Any]]


def build(spec: StateSpec, mesh: Mesh, loss: Loss, microbatch: int | None = None) -> Gradients:
    """Gradients for the model and batch of a state, with a loss over the global batch.

    `microbatch` is the number of samples whose activations are held at a time; None for all. Raises
    `ConfigError` if it does not divide the batch over the devices.
    """
    if microbatch is None or microbatch >= spec.batch[IMAGE].shape[0]:
        return at_once(spec, loss)
    return in_microbatches(spec, mesh, loss, microbatch)


def at_once(spec: StateSpec, loss: Loss) -> Gradients:
    """Gradients with the activations of the whole batch in memory."""

    model, partition = spec.model, spec.partition

    def gradients(params, batch, keep_BK):
        def total(trainable: Any) -> tuple[jax.Array, Metrics]:
            params_now = partition.merge(trainable, params)
            zimg_BE, ztxt_BE = _embed(model, params_now, batch[IMAGE], batch[TOKENS], keep_BK)
            scale, bias = _scalars(model, params_now)
            value, metrics = loss(zimg_BE, ztxt_BE, scale, bias, batch.get(CAPTION_HASH))
            return value, {**metrics, "temperature": scale}

        return jax.value_and_grad(total, has_aux=True)(partition.trainable(params))

    return gradients


def in_microbatches(spec: StateSpec, mesh: Mesh, loss: Loss, size: int) -> Gradients:
    """The same gradients, with the activations of N samples at a time (GradCache).

    The batch is embedded one micro-batch at a time, and only embeddings are kept. The loss of the
    whole batch gives the gradient of every embedding. Each micro-batch is then embedded again to
    propagate its part to the parameters (arXiv 2101.06983): one more forward pass.

    A micro-batch is an equal share of the rows of *every* device, so no sample moves. Gradients are
    summed in float32, sharded as the parameters.
    """
    model, partition = spec.model, spec.partition
    shardings = jax.tree.map(lambda leaf: leaf.sharding, partition.trainable(spec.shapes.params))
    number = _number(mesh, spec.batch[IMAGE].shape[0], size)

    def cut(tree: Any) -> Any:
        """(B, ...) -> (B / N, N, ...), on each device for its own rows."""
        return _local(mesh, _BATCH, _PARTS, lambda x: x.reshape(number, -1, *x.shape[1:]), tree)

    def join(tree: Any) -> Any:
        """The inverse of `cut`."""
        return _local(mesh, _PARTS, _BATCH, lambda x: x.reshape(-1, *x.shape[2:]), tree)

    def gradients(params, batch, keep_BK):
        parts = cut((batch[IMAGE], batch[TOKENS], keep_BK))
        zimg_BE, ztxt_BE = join(jax.lax.map(lambda part: _embed(model, params, *part), parts))
        trainable, merge = partition.trainable(params), partition.merge
        (scale, bias), pull = jax.vjp(lambda x: _scalars(model, merge(x, params)), trainable)
        differentiate = jax.value_and_grad(loss, argnums=(0, 1, 2, 3), has_aux=True)
        (value, metrics), (*dz, dscale, dbias) = differentiate(
            zimg_BE, ztxt_BE, scale, bias, batch.get(CAPTION_HASH)
        )

        def add(grads: Any, inputs: Any) -> tuple[Any, None]:
            part, dz = inputs
            _, pull = jax.vjp(lambda x: _embed(model, merge(x, params), *part), trainable)
            grads = jax.tree.map(jnp.add, grads, pull(dz)[0])
            return jax.lax.with_sharding_constraint(grads, shardings), None

        (start,) = pull((dscale, dbias))
        start = jax.lax.with_sharding_constraint(start, shardings)
        grads, _ = jax.lax.scan(add, start, (parts, cut(tuple(dz))))
        return (value, {**metrics, "temperature": scale}), grads

    return gradients


_BATCH = sharding.BATCH
_PARTS = P(None, *sharding.BATCH)


def _number(mesh: Mesh, batch_size: int, size: int) -> int:
    """The number of micro-batches."""
    devices = sharding.data_parallel(mesh)
    if size < 1 or batch_size % size or size % devices:
        rows = batch_size // devices
        legal = [devices * share for share in range(1, rows + 1) if rows % share == 0]
        raise ConfigError(
            f"microbatch {size} does not divide the batch of {batch_size} into equal shares of "
            f"{devices} data-parallel devices; nearest: {min(legal, key=lambda n: abs(n - size))}"
        )
    return batch_size // size


def _local(mesh: Mesh, before: P, after: P, change: Callable[[jax.Array], Any], tree: Any) -> Any:
    """Applies `change` to the rows of each device, without communication."""

    def all_leaves(tree: Any) -> Any:
        return jax.tree.map(change, tree)

    return jax.shard_map(all_leaves, mesh=mesh, in_specs=(before,), out_specs=after)(tree)


def _embed(model: CLIP, params: Any, image_BRRC: Any, tokens_BL: Any, keep_BK: Any) -> Any:
    """(image embeddings (B, E), text embeddings (B, E))."""
    return model.apply({"params": params}, image_BRRC, tokens_BL, keep_BK)[:2]


def _scalars(model: CLIP, params: Any) -> Any:
    """(inverse temperature, bias or None), both ()."""
    return model.apply({"params": params}, method=model.scalars)

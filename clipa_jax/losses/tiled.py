"""The same losses in little memory: exact sums over tiles of the logits, with custom gradients.

A device holds its own embeddings and their gradients, one block of texts from another device and
a few tiles of logits; nothing that grows with the global batch. `ring` walks over the tiles.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from clipa_jax.losses.pairs import Loss, PairMask, ignore, similarity
from clipa_jax.losses.ring import TILE, Ring, Side, Sums


def softmax(mesh: Mesh, *, tile: int = TILE) -> Loss:
    """`naive.softmax` in little memory.

    The forward pass sums the log-sum-exp of rows and columns and the accuracy; the backward pass
    computes each tile again and adds its gradients. Four matrix products of B x B x E, where the
    naive loss has three. `tile` is the maximum of rows and columns of a tile.
    """
    return functools.partial(_softmax, Ring(mesh, tile))


def sigmoid(mesh: Mesh, *, tile: int = TILE) -> Loss:
    """`naive.sigmoid` in little memory.

    Terms of pairs are independent, so one pass gives the loss and its gradients: three matrix
    products of B x B x E, as in the naive loss.
    """
    return functools.partial(_sigmoid, Ring(mesh, tile))


class _Lse(NamedTuple):
    """A partial log-sum-exp: `total` is the sum of exp(logit - peak)."""

    peak: jax.Array
    total: jax.Array

    @classmethod
    def start(cls, size: int) -> "_Lse":
        # Finite, so that a row of ignored pairs has a peak to subtract.
        lowest = jnp.finfo(jnp.float32).min
        return cls(jnp.full(size, lowest, jnp.float32), jnp.zeros(size, jnp.float32))

    def add(self, logits_RC: jax.Array, axis: int) -> "_Lse":
        peak = jnp.maximum(self.peak, logits_RC.max(axis))
        powers_RC = jnp.exp(logits_RC - jnp.expand_dims(peak, axis))
        return _Lse(peak, self.total * jnp.exp(self.peak - peak) + powers_RC.sum(axis))

    def value(self) -> jax.Array:
        return self.peak + jnp.log(self.total)

    def softmax(self, logits_RC: jax.Array, axis: int) -> jax.Array:
        """The softmax; from both parts, since the rounding error of `value` grows with it."""
        peak, total = (jnp.expand_dims(x, axis) for x in self)
        return jnp.exp(logits_RC - peak) / total


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _softmax(ring: Ring, zimg_BE, ztxt_BE, scale, bias=None, caption_B=None):
    return _softmax_forward(ring, zimg_BE, ztxt_BE, scale, bias, caption_B)[0]


def _softmax_forward(ring: Ring, zimg_BE, ztxt_BE, scale, bias, caption_B):
    batch = zimg_BE.shape[0]
    images, texts = Side(zimg_BE, caption_B), Side(ztxt_BE, caption_B)
    row_sums = (_Lse.start(batch), jnp.zeros(batch, jnp.float32))
    (rows, match_B), columns = ring.fold(
        _softmax_sums, scale, images, texts, (row_sums, _Lse.start(batch))
    )
    loss = jnp.mean((rows.value() + columns.value()) / 2 - match_B)
    metrics = {"accuracy": jnp.mean(match_B >= rows.peak)}
    residuals = (scale, bias, images._replace(extra=rows), texts._replace(extra=columns))
    return (loss, metrics), residuals


def _softmax_backward(ring: Ring, residuals: Any, upstream: Any):
    scale, bias, images, texts = residuals
    scalars = (scale, upstream[0] * scale / images.z.shape[0])
    start = jnp.zeros_like(images.z), jnp.zeros_like(texts.z)
    dzimg_BE, dztxt_BE = ring.fold(_softmax_grads, scalars, images, texts, start)
    dbias = None if bias is None else jnp.zeros_like(bias)  # a constant does not change softmax
    return dzimg_BE, dztxt_BE, _dscale(images.z, dzimg_BE, scale), dbias, None


def _softmax_sums(scale, row: Side, column: Side, mask: PairMask, sums: Sums):
    (lse, match_R), column_sums = sums
    logits_RC = _logits(scale, None, row, column, mask)
    match_R = match_R + jnp.where(mask.positive_RC, logits_RC, 0).sum(1)
    return (lse.add(logits_RC, axis=1), match_R), column_sums.add(logits_RC, axis=0)


def _softmax_grads(scalars, row: Side, column: Side, mask: PairMask, sums: Sums):
    (scale, upstream), (dzimg_RE, dztxt_CE) = scalars, sums
    logits_RC = _logits(scale, None, row, column, mask)
    softmax_RC = row.extra.softmax(logits_RC, axis=1) + column.extra.softmax(logits_RC, axis=0)
    d_RC = upstream * (softmax_RC / 2 - mask.positive_RC)
    return dzimg_RE + d_RC @ column.z, dztxt_CE + d_RC.T @ row.z


_softmax.defvjp(_softmax_forward, _softmax_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sigmoid(ring: Ring, zimg_BE, ztxt_BE, scale, bias=None, caption_B=None):
    return _sigmoid_forward(ring, zimg_BE, ztxt_BE, scale, bias, caption_B)[0]


def _sigmoid_forward(ring: Ring, zimg_BE, ztxt_BE, scale, bias, caption_B):
    zeros_B = jnp.zeros(zimg_BE.shape[0], jnp.float32)
    row_sums = {
        **dict.fromkeys(("loss", "match", "dbias"), zeros_B),
        "peak": zeros_B - jnp.inf,
        "dz": jnp.zeros_like(zimg_BE),
    }
    images, texts = Side(zimg_BE, caption_B), Side(ztxt_BE, caption_B)
    scalars = (scale, bias, jnp.float32(1 / zimg_BE.shape[0]))
    sums, dztxt_BE = ring.fold(
        _sigmoid_sums, scalars, images, texts, (row_sums, jnp.zeros_like(ztxt_BE))
    )
    dbias = None if bias is None else sums["dbias"].sum().reshape(bias.shape)
    metrics = {"accuracy": jnp.mean(sums["match"] >= sums["peak"])}
    gradients = (sums["dz"], dztxt_BE, _dscale(zimg_BE, sums["dz"], scale), dbias)
    return (sums["loss"].sum(), metrics), gradients


def _sigmoid_backward(ring: Ring, gradients: Any, upstream: Any):
    return *jax.tree.map(lambda d: upstream[0] * d, gradients), None


def _sigmoid_sums(scalars, row: Side, column: Side, mask: PairMask, sums: Sums):
    (scale, bias, share), (row_sums, dztxt_CE) = scalars, sums
    logits_RC = _logits(scale, bias, row, column, mask)
    match_RC = jnp.where(mask.positive_RC, logits_RC, 0)
    d_RC = share * (jax.nn.sigmoid(logits_RC) - mask.positive_RC)
    # -log sigmoid(x) = softplus(x) - x, and softplus(-infinity) is 0.
    terms_RC = share * (jax.nn.softplus(logits_RC) - match_RC)
    row_sums = {
        "loss": row_sums["loss"] + terms_RC.sum(1),
        "match": row_sums["match"] + match_RC.sum(1),
        "dbias": row_sums["dbias"] + d_RC.sum(1),
        "peak": jnp.maximum(row_sums["peak"], logits_RC.max(1)),
        "dz": row_sums["dz"] + scale * (d_RC @ column.z),
    }
    return row_sums, dztxt_CE + scale * (d_RC.T @ row.z)


_sigmoid.defvjp(_sigmoid_forward, _sigmoid_backward)


def _logits(scale: Any, bias: Any, row: Side, column: Side, mask: PairMask) -> jax.Array:
    logits_RC = similarity(row.z, column.z) * scale
    if bias is not None:
        logits_RC = logits_RC + bias
    return ignore(logits_RC, mask)


def _dscale(zimg_BE: jax.Array, dzimg_BE: jax.Array, scale: jax.Array) -> jax.Array:
    """The gradient of the scale, from that of the images: logits depend on `scale * zimg`."""
    return jnp.sum(zimg_BE * dzimg_BE) / scale

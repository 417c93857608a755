"""Reference losses, with all B x B logits at once.

On a mesh XLA gathers at least one side of the embeddings on every device, and each device holds
B x B / devices logits several times over.
"""

import jax
import jax.numpy as jnp

from clipa_jax.losses.pairs import Metrics, PairMask, ignore, pair_mask, similarity


def softmax(
    zimg_BE: jax.Array,
    ztxt_BE: jax.Array,
    scale: jax.Array,
    bias: jax.Array | None = None,
    caption_B: jax.Array | None = None,
) -> tuple[jax.Array, Metrics]:
    """CLIP's loss: cross entropy of each image over all texts and of each text over all images.

    Mean of the two directions (CLIP, arXiv 2103.00020, figure 3). The bias, added to all logits,
    does not change this loss; see `pairs.Loss`.
    """
    del bias
    mask = _mask(zimg_BE, caption_B)
    logits_BB = ignore(similarity(zimg_BE, ztxt_BE) * scale, mask)
    match_B = jnp.diagonal(logits_BB)
    rows_B = jax.nn.logsumexp(logits_BB, axis=1)
    columns_B = jax.nn.logsumexp(logits_BB, axis=0)
    loss = jnp.mean((rows_B + columns_B) / 2 - match_B)
    return loss, {"accuracy": _accuracy(logits_BB)}


def sigmoid(
    zimg_BE: jax.Array,
    ztxt_BE: jax.Array,
    scale: jax.Array,
    bias: jax.Array | None = None,
    caption_B: jax.Array | None = None,
) -> tuple[jax.Array, Metrics]:
    """SigLIP's loss: binary cross entropy of each of the B x B pairs.

    Sum over the pairs of an image, mean over images (SigLIP, arXiv 2303.15343, algorithm 1).
    """
    mask = _mask(zimg_BE, caption_B)
    logits_BB = similarity(zimg_BE, ztxt_BE) * scale
    logits_BB = ignore(logits_BB if bias is None else logits_BB + bias, mask)
    # -log sigmoid(x) = softplus(x) - x, and softplus(-infinity) is 0.
    loss = jnp.mean(jax.nn.softplus(logits_BB).sum(axis=1) - jnp.diagonal(logits_BB))
    return loss, {"accuracy": _accuracy(logits_BB)}


def _mask(zimg_BE: jax.Array, caption_B: jax.Array | None) -> PairMask:
    index_B = jnp.arange(zimg_BE.shape[0], dtype=jnp.int32)
    return pair_mask(index_B, index_B, caption_B, caption_B)


def _accuracy(logits_BB: jax.Array) -> jax.Array:
    return jnp.mean(jnp.diagonal(logits_BB) >= logits_BB.max(axis=1))

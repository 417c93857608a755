"""The losses as one writes them down: all B x B logits at once.

The reference for the others, and readable. On a mesh XLA gathers what it needs: at least
one side of the embeddings on every device, and B x B / devices logits, several times over.
"""

import jax
import jax.numpy as jnp

from clipa_jax.losses.pairs import Marks, Metrics, mark, similarity


def softmax(
    zimg_BE: jax.Array,
    ztxt_BE: jax.Array,
    scale: jax.Array,
    bias: jax.Array | None = None,
    caption_B: jax.Array | None = None,
) -> tuple[jax.Array, Metrics]:
    """CLIP's loss: cross entropy of each image over all texts and of each text over all images.

    Mean of the two directions (CLIP, arXiv 2103.00020, figure 3).

    Args:
      zimg_BE, ztxt_BE: unit-length embeddings of B pairs.
      scale: inverse temperature, a scalar.
      bias: added to all logits, which this loss does not see.
      caption_B: int32 hashes of captions; texts that read like an image's own are not among
        its negatives, nor such images among a text's. None: all pairs count.

    Returns:
      (loss, {"accuracy": share of images that no text scores higher with than their own}).
    """
    del bias
    marks = _marks(zimg_BE, caption_B)
    logits_BB = _counted(similarity(zimg_BE, ztxt_BE) * scale, marks)
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
    """SigLIP's loss: each of the B x B pairs is told apart from its opposite on its own.

    Sum over the pairs of an image, mean over images (SigLIP, arXiv 2303.15343, algorithm 1).

    Arguments and result as in `softmax`; pairs that do not count add nothing.
    """
    marks = _marks(zimg_BE, caption_B)
    logits_BB = similarity(zimg_BE, ztxt_BE) * scale
    logits_BB = _counted(logits_BB if bias is None else logits_BB + bias, marks)
    # -log sigmoid(x) = softplus(x) - x, and softplus(-infinity) is 0.
    loss = jnp.mean(jax.nn.softplus(logits_BB).sum(axis=1) - jnp.diagonal(logits_BB))
    return loss, {"accuracy": _accuracy(logits_BB)}


def _marks(zimg_BE: jax.Array, caption_B: jax.Array | None) -> Marks:
    place_B = jnp.arange(zimg_BE.shape[0], dtype=jnp.int32)
    return mark(place_B, place_B, caption_B, caption_B)


def _counted(logits_BB: jax.Array, marks: Marks) -> jax.Array:
    if marks.ignored_RC is None:
        return logits_BB
    return jnp.where(marks.ignored_RC, -jnp.inf, logits_BB)


def _accuracy(logits_BB: jax.Array) -> jax.Array:
    return jnp.mean(jnp.diagonal(logits_BB) >= logits_BB.max(axis=1))

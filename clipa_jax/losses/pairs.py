"""Definitions shared by all losses: their type, the mask of pairs, repeated captions.

B pairs in the global batch, E embedding; row i of the logits is image i, column j text j.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

Metrics = dict[str, jax.Array]
# (zimg_BE, ztxt_BE, scale, bias, caption_B) -> (loss, metrics): unit-length embeddings of B pairs,
# the inverse temperature, a bias of the logits, and int32 hashes of captions: pairs of different
# samples with equal captions are ignored; None: all pairs count. The metric is `accuracy`, the
# share of images whose own text has the highest logit.
Loss = Callable[
    [jax.Array, jax.Array, jax.Array, jax.Array | None, jax.Array | None],
    tuple[jax.Array, Metrics],
]


class PairMask(NamedTuple):
    """The positive and the ignored pairs among R images and C texts."""

    positive_RC: jax.Array  # bool, an image and its own text
    ignored_RC: jax.Array | None  # bool, false negatives and padding; None if there are none


def pair_mask(
    row_index_R: jax.Array,
    column_index_C: jax.Array,
    row_caption_R: jax.Array | None = None,
    column_caption_C: jax.Array | None = None,
) -> PairMask:
    """The mask of R images and C texts by their positions in the global batch, int32.

    Given int32 hashes of captions, a text equal to the image's own is a false negative and is
    ignored.
    """
    positive_RC = row_index_R[:, None] == column_index_C[None, :]
    if row_caption_R is None or column_caption_C is None:
        return PairMask(positive_RC, None)
    same_RC = row_caption_R[:, None] == column_caption_C[None, :]
    return PairMask(positive_RC, same_RC & ~positive_RC)


def ignore(logits_RC: jax.Array, mask: PairMask) -> jax.Array:
    """The logits, minus infinity where a pair is ignored."""
    if mask.ignored_RC is None:
        return logits_RC
    return jnp.where(mask.ignored_RC, -jnp.inf, logits_RC)


def similarity(zimg_RE: jax.Array, ztxt_CE: jax.Array) -> jax.Array:
    """(R, C) float32 dot products, at the precision of `jax_default_matmul_precision`."""
    return jnp.dot(zimg_RE, ztxt_CE.T, preferred_element_type=jnp.float32)


def repeated(caption_B: jax.Array) -> jax.Array:
    """Share of the samples whose caption occurs more than once in the batch, by int32 hashes.

    Among 65,536 different captions, one collision is expected.
    """
    sorted_B = jnp.sort(caption_B)
    equal = sorted_B[1:] == sorted_B[:-1]
    return jnp.mean(jnp.pad(equal, (0, 1)) | jnp.pad(equal, (1, 0)))

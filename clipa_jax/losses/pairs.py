"""What all losses share: their type, which pairs count, and how often captions repeat.

B pairs in the global batch, E embedding; row i of the logits is image i, column j text j.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

Metrics = dict[str, jax.Array]
# (zimg_BE, ztxt_BE, scale, bias, caption_B) -> (loss, metrics)
Loss = Callable[
    [jax.Array, jax.Array, jax.Array, jax.Array | None, jax.Array | None],
    tuple[jax.Array, Metrics],
]


class Marks(NamedTuple):
    """Which of R x C pairs are an image with its own text, and which are left out.

    Attributes:
      own_RC: bool.
      ignored_RC: bool, false negatives and padding; None where there are none.
    """

    own_RC: jax.Array
    ignored_RC: jax.Array | None


def mark(
    row_place_R: jax.Array,
    column_place_C: jax.Array,
    row_caption_R: jax.Array | None = None,
    column_caption_C: jax.Array | None = None,
) -> Marks:
    """The marks of some images against some texts.

    Args:
      row_place_R, column_place_C: int32, their places in the global batch.
      row_caption_R, column_caption_C: int32, hashes of their captions. A text that reads
        like the image's own is a false negative and is left out. None: all are negatives.
    """
    own_RC = row_place_R[:, None] == column_place_C[None, :]
    if row_caption_R is None or column_caption_C is None:
        return Marks(own_RC, None)
    return Marks(own_RC, (row_caption_R[:, None] == column_caption_C[None, :]) & ~own_RC)


def similarity(zimg_RE: jax.Array, ztxt_CE: jax.Array) -> jax.Array:
    """(R, C) float32 products, at the precision that `jax_default_matmul_precision` asks for."""
    return jnp.dot(zimg_RE, ztxt_CE.T, preferred_element_type=jnp.float32)


def repeated(caption_B: jax.Array) -> jax.Array:
    """Share of the samples whose caption stands at another place of the batch too.

    Args:
      caption_B: int32 hashes. Of 65,536 different captions one, on average, shares its 32 bits
        with another by chance.
    """
    sorted_B = jnp.sort(caption_B)
    alike = sorted_B[1:] == sorted_B[:-1]
    return jnp.mean(jnp.pad(alike, (0, 1)) | jnp.pad(alike, (1, 0)))

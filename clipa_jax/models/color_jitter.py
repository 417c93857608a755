"""Colour jitter and grayscale on the devices: the last op on training pictures.

The host draws how each picture changes (the op `jitter`), ten numbers a picture; here they are
applied, at the start of the step. docs/performance.md has the times that speak for it.

B global batch, R pixels a side, C = 3 channels (red, green, blue).
"""

import jax
import jax.numpy as jnp

COLOUR = "colour"  # the entry of a batch that holds the numbers
NUMBERS = 10  # the matrix (C, C) row by row, for colours as rows; the contrast
Batch = dict[str, jax.Array]


def apply(batch: Batch) -> Batch:
    """The batch with its pictures recoloured, uint8 as before, and the numbers used up.

    Args:
      batch: `image` uint8 (B, R, R, C); maybe `colour` float32 (B, 10), see
        `clipa_jax.preprocess.image.jitter`. Without it nothing changes.
    """
    if COLOUR not in batch:
        return batch
    image = _recolour(batch["image"], batch[COLOUR])
    return {name: rows for name, rows in batch.items() if name != COLOUR} | {"image": image}


def _recolour(image_BRRC: jax.Array, numbers_BN: jax.Array) -> jax.Array:
    """Contrast about each channel's mean, then the matrix; rounded and cut once at the end."""
    pixels = image_BRRC.astype(jnp.float32)
    mean = pixels.mean((1, 2), keepdims=True)
    contrast = numbers_BN[:, None, None, -1:]
    pixels = mean + contrast * (pixels - mean)
    matrix = numbers_BN[:, None, None, :-1].reshape(-1, 1, 1, 3, 3)
    # Three products and sums: XLA fuses them with all the rest, where a matrix product of this
    # size would be an operation of its own.
    mixed = sum(pixels[..., c, None] * matrix[..., c, :] for c in range(3))
    return jnp.clip(jnp.floor(mixed + 0.5), 0, 255).astype(jnp.uint8)

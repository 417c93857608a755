"""Color jitter and grayscale on the devices: the last op on training pictures.

The host draws ten numbers a picture (the op `jitter`); the training step applies them first.
docs/measurements/data_pipeline.md has the times of both sides.

B global batch, R pixels a side, C = 3 channels (red, green, blue).
"""

import jax
import jax.numpy as jnp

from clipa_jax.config.batch import COLOR, IMAGE

Batch = dict[str, jax.Array]


def apply(batch: Batch) -> Batch:
    """Recolors the pictures of a batch, uint8 as before, and drops the entry `color`.

    A batch without that entry is returned as it is; see `clipa_jax.preprocess.image.jitter`.
    """
    if COLOR not in batch:
        return batch
    image = _recolor(batch[IMAGE], batch[COLOR])
    return {name: rows for name, rows in batch.items() if name != COLOR} | {IMAGE: image}


def _recolor(image_BRRC: jax.Array, numbers_BN: jax.Array) -> jax.Array:
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

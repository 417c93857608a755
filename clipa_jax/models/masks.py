"""Patch masks: which patches of each training image the tower sees.

Masking and resizing are the two ways to reduce image tokens (CLIPA, section 3.1). Evaluation
never masks. B batch, P patches of a square grid, K kept patches.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from clipa_jax.errors import ConfigError
from clipa_jax.sharding import split_batch

Mask = Callable[[jax.Array, int, int, float], jax.Array]


def random(rng: jax.Array, batch: int, patches: int, ratio: float) -> jax.Array:
    """A uniformly random subset of each image, int32 (B, K) ascending.

    K = max(floor(P * (1 - ratio)), 1); `ratio` is the share of patches that is dropped, in [0, 1).
    """
    kept = max(int(patches * (1 - ratio)), 1)
    noise_BP = split_batch(jax.random.uniform(rng, (batch, patches)))
    keep_BK = jnp.argsort(noise_BP, axis=1)[:, :kept]
    return jnp.sort(keep_BK, axis=1)


def grid(rng: jax.Array, batch: int, patches: int, ratio: float) -> jax.Array:
    """A regular sub-grid, the same spacing everywhere, at a random offset for each image: (B, K).

    Of g x g patches, k x k remain with k = max(round(g * sqrt(1 - ratio)), 1), so K = k * k. Rows
    and columns are i * g / k, rounded down, after a shift of up to one spacing.
    """
    side = _side(patches)
    kept = max(round(side * (1 - ratio) ** 0.5), 1)
    offset_B21 = jax.random.uniform(rng, (batch, 2, 1), maxval=side / kept)
    lines_B2k = jnp.floor(jnp.arange(kept) * (side / kept) + offset_B21).astype(jnp.int32)
    return _cells(jnp.minimum(lines_B2k, side - 1), side)


def block(rng: jax.Array, batch: int, patches: int, ratio: float) -> jax.Array:
    """One square window at a random place of each image: (B, K), K as in `grid`.

    Every placement is equally likely.
    """
    side = _side(patches)
    kept = max(round(side * (1 - ratio) ** 0.5), 1)
    corner_B21 = jax.random.randint(rng, (batch, 2, 1), 0, side - kept + 1)
    return _cells(corner_B21 + jnp.arange(kept), side)


MASKS: dict[str, Mask] = {"random": random, "grid": grid, "block": block}


def kept_patches(name: str, patches: int, ratio: float) -> int:
    """K, the exact number of patches that a mask keeps."""
    if not ratio:
        return patches
    shape = jax.eval_shape(lambda: MASKS[name](jax.random.key(0), 1, patches, ratio))
    return int(np.prod(shape.shape))


def _cells(lines_B2k: jax.Array, side: int) -> jax.Array:
    """(B, k * k) patch indices from the rows and columns (B, 2, k)."""
    rows_Bk, columns_Bk = lines_B2k[:, 0], lines_B2k[:, 1]
    cells_Bkk = rows_Bk[:, :, None] * side + columns_Bk[:, None, :]
    return cells_Bkk.reshape(cells_Bkk.shape[0], -1)


def _side(patches: int) -> int:
    side = round(patches**0.5)
    if side * side != patches:
        raise ConfigError(f"{patches} patches do not form a square grid; use the random mask")
    return side

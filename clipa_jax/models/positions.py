"""Position tables: fixed sin-cos, and resizing of learned ones.

P patches of a square grid, L text tokens, D width.
"""

import jax
import jax.numpy as jnp
import numpy as np

from clipa_jax.errors import ConfigError


def sincos_2d(grid: int, width: int, temperature: float = 10_000.0) -> np.ndarray:
    """The fixed image table (grid * grid, width) float32 of the released CLIPA, as in MoCo v3.

    Channels are sin x, cos x, sin y, cos y with `width / 4` frequencies each, from 1 down to 1 /
    temperature inclusive, on the integer grid: a finer grid extrapolates rather than interpolates.
    open_clip's `sin_cos_2d` spaces its frequencies otherwise.
    """
    if width % 4:
        raise ConfigError(f"sincos2d positions need a width divisible by 4; got {width}")
    frequency = temperature ** -(np.arange(width // 4) / (width // 4 - 1))
    y_P, x_P = (axis.reshape(-1, 1) for axis in np.mgrid[:grid, :grid])
    x_PF, y_PF = x_P * frequency, y_P * frequency
    table = np.concatenate([np.sin(x_PF), np.cos(x_PF), np.sin(y_PF), np.cos(y_PF)], axis=1)
    return table.astype(np.float32)


def resize_2d(table_1PD: jax.Array, patches: int, grid: tuple[int, int] | None = None) -> jax.Array:
    """Resizes a learned image table (1, 1 + P, D) to (1, 1 + patches, D), another square grid.

    The class row, which is the first, is unchanged. `grid` has the rows and columns of the P
    patches, if they form no square.
    """
    class_11D, grid_1PD = table_1PD[:, :1], table_1PD[:, 1:]
    old, new = grid or (_side(grid_1PD.shape[1]),) * 2, _side(patches)
    width = table_1PD.shape[-1]
    grid_HWD = grid_1PD.reshape(*old, width)
    grid_HWD = jax.image.resize(grid_HWD, (new, new, width), method="bicubic")
    return jnp.concatenate([class_11D, grid_HWD.reshape(1, new * new, width)], axis=1)


def resize_1d(table_1LD: jax.Array, length: int) -> jax.Array:
    """Resizes a learned text table (1, L, D) linearly, as the released code does."""
    _, _, width = table_1LD.shape
    return jax.image.resize(table_1LD, (1, length, width), method="linear")


def extend_1d(table_1LD: jax.Array, length: int) -> jax.Array:
    """Gives a learned text table (1, L, D) `length` positions: its first, then copies of the last.

    Texts that fit both lengths keep their positions.
    """
    more = max(length - table_1LD.shape[1], 0)
    return jnp.pad(table_1LD[:, :length], ((0, 0), (0, more), (0, 0)), mode="edge")


def _side(patches: int) -> int:
    side = round(patches**0.5)
    if side * side != patches:
        raise ConfigError(f"{patches} patches do not form a square grid")
    return side

"""The image tower: a Vision Transformer with class token, fixed or learned positions.

Parameter names and order of operations follow the released CLIPA `models/vit.py`.
Shapes: B batch, R pixels a side, C channels, P patches, K kept patches, D width,
E embedding.
"""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from clipa_jax.errors import ConfigError
from clipa_jax.models import layers, positions

POOL = ("gap", "tok", "map")
POSEMB = ("sincos2d", "learned")


@dataclass(frozen=True, kw_only=True)
class ImageConfig(layers.TowerConfig):
    """Configuration of the image tower."""

    patch_size: int  # pixels along a side of a patch
    posemb: str  # in POSEMB
    pre_norm: bool  # whether a norm precedes the first layer, as in OpenAI's CLIP

    def patches(self, res: int) -> int:
        """P of an image of `res` pixels a side."""
        return (res // self.patch_size) ** 2


class ViT(nn.Module):
    """Images to embeddings.

    A class token is always part of the sequence. With `pool="gap"` it attends but is left
    out of the mean, which is taken before the final norm, as the released weights expect.
    """

    config: ImageConfig

    @nn.compact
    def __call__(self, image_BRRC: jax.Array, keep_BK: jax.Array | None = None) -> jax.Array:
        """Embeds normalized images (B, R, R, 3) as (B, E), before normalization to unit length.

        `keep_BK`, int32, has the indices of the patches that the tower sees; None for all.
        """
        c = self.config
        x_BPD = self._patches(image_BRRC)
        batch, patches, width = x_BPD.shape
        class_11D = self.param("cls", nn.initializers.zeros, (1, 1, width)).astype(x_BPD.dtype)
        if c.posemb == "learned":
            init = nn.initializers.normal(stddev=width**-0.5)
            table_1PD = self.param("pos_embedding", init, (1, 1 + patches, width))
            class_11D = class_11D + table_1PD[:, :1].astype(x_BPD.dtype)
            x_BPD = x_BPD + table_1PD[:, 1:].astype(x_BPD.dtype)
        else:
            table_PD = positions.sincos_2d(round(patches**0.5), width)
            x_BPD = x_BPD + jnp.asarray(table_PD, x_BPD.dtype)
        if keep_BK is not None:
            x_BPD = jnp.take_along_axis(x_BPD, keep_BK[:, :, None], axis=1)
        x_BPD = jnp.concatenate([jnp.tile(class_11D, (batch, 1, 1)), x_BPD], axis=1)
        if c.pre_norm:
            x_BPD = layers.layer_norm(c, "pre_norm")(x_BPD)
        x_BPD = layers.Transformer(c, name="Transformer")(x_BPD)
        x_BD = self._pool(x_BPD)
        return nn.Dense(c.embed_dim, use_bias=False, dtype=c.dtype, name="head")(x_BD)

    def _patches(self, image_BRRC: jax.Array) -> jax.Array:
        batch, height, width, channels = image_BRRC.shape
        size = self.config.patch_size
        if height != width or height % size:
            raise ConfigError(
                f"images of {height}x{width} pixels do not divide into patches of {size}; "
                f"nearest: {max(round(height / size), 1) * size}"
            )
        width, dtype = self.config.width, self.config.dtype
        kernel = _Kernel((size, size, channels, width), name="embedding")()
        grid = height // size
        x = image_BRRC.reshape(batch, grid, size, grid, size, channels)
        x_BPF = x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, grid * grid, -1)
        return x_BPF.astype(dtype) @ kernel.reshape(-1, width).astype(dtype)

    def _pool(self, x_BPD: jax.Array) -> jax.Array:
        norm = layers.layer_norm(self.config, "encoder_norm")
        if self.config.pool == "gap":
            return norm(x_BPD[:, 1:].mean(axis=1))
        if self.config.pool == "tok":
            return norm(x_BPD[:, 0])
        return layers.MapHead(self.config, name="MAPHead_0")(norm(x_BPD))


class _Kernel(nn.Module):
    """The patch kernel, stored as the weight of a convolution (height, width, in, out)."""

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self) -> jax.Array:
        return self.param("kernel", nn.initializers.lecun_normal(), self.shape)

"""The image tower: a Vision Transformer with class token, fixed or learned positions.

Parameter names and order of operations follow the released CLIPA `models/vit.py`.
Shapes: B batch, R pixels a side, C channels, P patches, K kept patches, D width,
E embedding.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from clipa_jax.errors import ConfigError
from clipa_jax.models import layers, positions

POOL = ("gap", "tok", "map")
POSEMB = ("sincos2d", "learned")


class ViT(nn.Module):
    """Images to embeddings.

    A class token is always part of the sequence. With `pool="gap"` it attends but is left
    out of the mean, which is taken before the final norm, as the released weights expect.
    `pre_norm` adds a norm before the first layer, as OpenAI's CLIP has.
    """

    patch_size: int
    width: int
    depth: int
    mlp_dim: int
    num_heads: int
    embed_dim: int
    posemb: str
    pre_norm: bool
    pool: str
    gelu: str
    norm_eps: float
    attention: str
    remat: str
    layers: str
    dtype: Any

    @nn.compact
    def __call__(self, image_BRRC: jax.Array, keep_BK: jax.Array | None = None) -> jax.Array:
        """Embeds normalised images.

        Args:
          image_BRRC: float (B, R, R, 3), normalised.
          keep_BK: int32 (B, K), indices of the patches that the tower sees; None for all.

        Returns:
          (B, E), before normalisation to unit length.
        """
        x_BPD = self._patches(image_BRRC)
        batch, patches, width = x_BPD.shape
        class_11D = self.param("cls", nn.initializers.zeros, (1, 1, width)).astype(x_BPD.dtype)
        if self.posemb == "learned":
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
        if self.pre_norm:
            x_BPD = nn.LayerNorm(epsilon=self.norm_eps, dtype=self.dtype, name="pre_norm")(x_BPD)
        x_BPD = layers.Transformer(
            depth=self.depth,
            num_heads=self.num_heads,
            mlp_dim=self.mlp_dim,
            gelu=self.gelu,
            norm_eps=self.norm_eps,
            causal=False,
            attention=self.attention,
            remat=self.remat,
            layers=self.layers,
            dtype=self.dtype,
            name="Transformer",
        )(x_BPD)
        x_BD = self._pool(x_BPD)
        return nn.Dense(self.embed_dim, use_bias=False, dtype=self.dtype, name="head")(x_BD)

    def _patches(self, image_BRRC: jax.Array) -> jax.Array:
        batch, height, width, channels = image_BRRC.shape
        size = self.patch_size
        if height != width or height % size:
            raise ConfigError(
                f"images of {height}x{width} pixels do not divide into patches of {size}; "
                f"nearest: {max(round(height / size), 1) * size}"
            )
        kernel = _Kernel((size, size, channels, self.width), name="embedding")()
        grid = height // size
        x = image_BRRC.reshape(batch, grid, size, grid, size, channels)
        x_BPF = x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, grid * grid, -1)
        return x_BPF.astype(self.dtype) @ kernel.reshape(-1, self.width).astype(self.dtype)

    def _pool(self, x_BPD: jax.Array) -> jax.Array:
        norm = nn.LayerNorm(epsilon=self.norm_eps, dtype=self.dtype, name="encoder_norm")
        if self.pool == "gap":
            return norm(x_BPD[:, 1:].mean(axis=1))
        if self.pool == "tok":
            return norm(x_BPD[:, 0])
        head = layers.MapHead(
            num_heads=self.num_heads,
            mlp_dim=self.mlp_dim,
            gelu=self.gelu,
            norm_eps=self.norm_eps,
            attention=self.attention,
            dtype=self.dtype,
            name="MAPHead_0",
        )
        return head(norm(x_BPD))


class _Kernel(nn.Module):
    """The patch kernel, stored as the weight of a convolution (height, width, in, out)."""

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self) -> jax.Array:
        return self.param("kernel", nn.initializers.lecun_normal(), self.shape)

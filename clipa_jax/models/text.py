"""The text tower: a transformer over word pieces, without attention mask as released.

Padding is attended and, with `pool="last"`, is usually the pooled position: released
weights depend on it (released `models/text_transformer.py`). Shapes: B batch, L text
tokens, V vocabulary rows, D width, E embedding.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from clipa_jax.models import layers

POOL = ("last", "first", "gap", "map", "argmax")


class TextTransformer(nn.Module):
    """Token ids to embeddings.

    `pool` takes the last or first position, the mean, attention pooling, or the position
    of the largest id (the end-of-text token of OpenAI's CLIP).
    """

    vocab_size: int
    width: int
    depth: int
    mlp_dim: int
    num_heads: int
    embed_dim: int
    pool: str
    gelu: str
    norm_eps: float
    causal: bool
    attention: str
    remat: str
    layers: str
    dtype: Any

    @nn.compact
    def __call__(self, tokens_BL: jax.Array) -> jax.Array:
        """Embeds token ids (B, L) int32 as (B, E), before normalisation to unit length."""
        embed = nn.Embed(
            self.vocab_size,
            self.width,
            embedding_init=nn.initializers.normal(stddev=0.02),
            dtype=self.dtype,
            name="Embed_0",
        )
        init = nn.initializers.normal(stddev=0.01)
        table_1LD = self.param("pos_embedding", init, (1, tokens_BL.shape[1], self.width))
        x_BLD = embed(tokens_BL)
        x_BLD = x_BLD + table_1LD.astype(x_BLD.dtype)
        x_BLD = layers.Transformer(
            depth=self.depth,
            num_heads=self.num_heads,
            mlp_dim=self.mlp_dim,
            gelu=self.gelu,
            norm_eps=self.norm_eps,
            causal=self.causal,
            attention=self.attention,
            remat=self.remat,
            layers=self.layers,
            dtype=self.dtype,
            name="Transformer",
        )(x_BLD)
        norm = nn.LayerNorm(epsilon=self.norm_eps, dtype=self.dtype, name="encoder_norm")
        x_BD = self._pool(norm(x_BLD), tokens_BL)
        return nn.Dense(self.embed_dim, use_bias=False, dtype=self.dtype, name="head")(x_BD)

    def _pool(self, x_BLD: jax.Array, tokens_BL: jax.Array) -> jax.Array:
        if self.pool == "last":
            return x_BLD[:, -1]
        if self.pool == "first":
            return x_BLD[:, 0]
        if self.pool == "gap":
            return x_BLD.mean(axis=1)
        if self.pool == "argmax":
            index_B = jnp.argmax(tokens_BL, axis=1)
            return jnp.take_along_axis(x_BLD, index_B[:, None, None], axis=1)[:, 0]
        head = layers.MapHead(
            num_heads=self.num_heads,
            mlp_dim=self.mlp_dim,
            gelu=self.gelu,
            norm_eps=self.norm_eps,
            attention=self.attention,
            dtype=self.dtype,
            name="MAPHead_0",
        )
        return head(x_BLD)

"""The text tower: a transformer over word pieces, without attention mask as released.

Padding is attended and, with `pool="last"`, is usually the pooled position: released
weights depend on it (released `models/text_transformer.py`). Shapes: B batch, L text
tokens, V vocabulary rows, D width, E embedding.
"""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from clipa_jax.models import layers

POOL = ("last", "first", "gap", "map", "argmax")


@dataclass(frozen=True, kw_only=True)
class TextConfig(layers.TowerConfig):
    """Configuration of the text tower."""

    vocab_size: int  # V


class TextTransformer(nn.Module):
    """Token ids to embeddings.

    `pool` takes the last or first position, the mean, attention pooling, or the position
    of the largest id (the end-of-text token of OpenAI's CLIP).
    """

    config: TextConfig

    @nn.compact
    def __call__(self, tokens_BL: jax.Array) -> jax.Array:
        """Embeds token ids (B, L) int32 as (B, E), before normalization to unit length."""
        c = self.config
        embed = nn.Embed(
            c.vocab_size,
            c.width,
            embedding_init=nn.initializers.normal(stddev=0.02),
            dtype=c.dtype,
            name="Embed_0",
        )
        init = nn.initializers.normal(stddev=0.01)
        table_1LD = self.param("pos_embedding", init, (1, tokens_BL.shape[1], c.width))
        x_BLD = embed(tokens_BL)
        x_BLD = x_BLD + table_1LD.astype(x_BLD.dtype)
        x_BLD = layers.Transformer(c, name="Transformer")(x_BLD)
        norm = layers.layer_norm(c, "encoder_norm")
        x_BD = self._pool(norm(x_BLD), tokens_BL)
        return nn.Dense(c.embed_dim, use_bias=False, dtype=c.dtype, name="head")(x_BD)

    def _pool(self, x_BLD: jax.Array, tokens_BL: jax.Array) -> jax.Array:
        if self.config.pool == "last":
            return x_BLD[:, -1]
        if self.config.pool == "first":
            return x_BLD[:, 0]
        if self.config.pool == "gap":
            return x_BLD.mean(axis=1)
        if self.config.pool == "argmax":
            index_B = jnp.argmax(tokens_BL, axis=1)
            return jnp.take_along_axis(x_BLD, index_B[:, None, None], axis=1)[:, 0]
        return layers.MapHead(self.config, name="MAPHead_0")(x_BLD)

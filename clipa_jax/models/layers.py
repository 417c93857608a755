"""Transformer layers of both towers.

Parameter names are those of the released CLIPA checkpoints (released
`models/vit.py`), so that files can be exchanged leaf by leaf. Shapes: B batch,
T tokens, D width, H heads, K width of a head, M hidden width of the MLP.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from clipa_jax.models.sizes import Tower
from clipa_jax.sharding import split_batch

GELU: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": lambda x: nn.gelu(x, approximate=True),  # the released CLIPA
    "exact": lambda x: nn.gelu(x, approximate=False),  # open_clip
    "quick": lambda x: x * nn.sigmoid(1.702 * x),  # OpenAI's CLIP
}

# What a rematerialized layer saves for the backward pass.
REMAT: dict[str, Any] = {
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_saveable,
    "dots_no_batch": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}

ATTENTION = ("auto", "xla", "cudnn")  # implementations of jax.nn.dot_product_attention
LAYERS = ("unrolled", "scanned")


@dataclass(frozen=True, kw_only=True)
class TowerConfig(Tower):
    """Sizes and options of one tower.

    Attributes:
      embed_dim: width of the embedding.
      pool: how one vector is taken from all positions, see the towers.
      gelu: in `GELU`.
      norm_eps: epsilon of all norms.
      causal: whether a position attends only to those before it.
      attention: in `ATTENTION`; "auto" leaves the choice to JAX.
      remat: in `REMAT`.
      layers: in `LAYERS`.
      dtype: of the arithmetic.
    """

    embed_dim: int
    pool: str
    gelu: str
    norm_eps: float
    causal: bool = False
    attention: str
    remat: str
    layers: str
    dtype: Any


def layer_norm(config: TowerConfig, name: str) -> nn.LayerNorm:
    """A norm over D with the tower's epsilon and dtype."""
    return nn.LayerNorm(epsilon=config.norm_eps, dtype=config.dtype, name=name)


class MlpBlock(nn.Module):
    """Two dense layers with a GELU between them."""

    config: TowerConfig

    @nn.compact
    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        init = {
            "kernel_init": nn.initializers.xavier_uniform(),
            "bias_init": nn.initializers.normal(stddev=1e-6),
            "dtype": self.config.dtype,
        }
        x_BTM = nn.Dense(self.config.mlp_dim, **init)(x_BTD)
        x_BTM = GELU[self.config.gelu](x_BTM)
        return nn.Dense(x_BTD.shape[-1], **init)(x_BTM)


class Attention(nn.Module):
    """Multi-head attention; its parameters are laid out as Flax's MultiHeadDotProductAttention."""

    config: TowerConfig

    @nn.compact
    def __call__(self, q_BTD: jax.Array, kv_BSD: jax.Array, *, causal: bool = False) -> jax.Array:
        width, num_heads = q_BTD.shape[-1], self.config.num_heads
        init = {"kernel_init": nn.initializers.xavier_uniform(), "dtype": self.config.dtype}
        heads = (num_heads, width // num_heads)
        q_BTHK = nn.DenseGeneral(heads, name="query", **init)(q_BTD)
        k_BSHK = nn.DenseGeneral(heads, name="key", **init)(kv_BSD)
        v_BSHK = nn.DenseGeneral(heads, name="value", **init)(kv_BSD)
        name = self.config.attention
        implementation: Any = None if name == "auto" else name
        # Scaled before the product with the keys, as in Flax and so in the released code.
        q_BTHK = q_BTHK * heads[1] ** -0.5
        x_BTHK = jax.nn.dot_product_attention(
            q_BTHK, k_BSHK, v_BSHK, scale=1.0, is_causal=causal, implementation=implementation
        )
        return nn.DenseGeneral(width, axis=(-2, -1), name="out", **init)(x_BTHK)


class Block(nn.Module):
    """A pre-norm transformer layer."""

    config: TowerConfig

    @nn.compact
    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        x_BTD = split_batch(x_BTD)
        y_BTD = layer_norm(self.config, "LayerNorm_0")(x_BTD)
        attention = Attention(self.config, name="MultiHeadDotProductAttention_0")
        x_BTD = split_batch(x_BTD + attention(y_BTD, y_BTD, causal=self.config.causal))
        y_BTD = layer_norm(self.config, "LayerNorm_1")(x_BTD)
        return split_batch(x_BTD + MlpBlock(self.config, name="MlpBlock_0")(y_BTD))


class ScanBlock(Block):
    """`Block` with the signature of `nn.scan`: (carry, input) -> (carry, output)."""

    @nn.compact
    def __call__(self, x_BTD: jax.Array, _: None) -> tuple[jax.Array, None]:  # type: ignore[override]
        return Block.__call__(self, x_BTD), None


class Transformer(nn.Module):
    """A stack of layers.

    With `layers="unrolled"` their parameters are `encoderblock_0`, `encoderblock_1`, ...;
    with "scanned" they are stacked along a first axis of `encoderblock`, so that one layer is
    compiled whatever the depth. `models.layout` converts between the two; checkpoints always
    hold the unrolled one.
    """

    config: TowerConfig

    @nn.compact
    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        c = self.config
        scanned = c.layers == "scanned"
        block: Any = ScanBlock if scanned else Block
        if c.remat != "none":
            # Inside a scan XLA cannot merge the recomputation with the first pass.
            block = nn.remat(block, policy=REMAT[c.remat], prevent_cse=not scanned)
        if scanned:
            stack = nn.scan(
                block, variable_axes={"params": 0}, split_rngs={"params": True}, length=c.depth
            )
            return stack(c, name="encoderblock")(x_BTD, None)[0]
        for index in range(c.depth):
            x_BTD = block(c, name=f"encoderblock_{index}")(x_BTD)
        return x_BTD


class MapHead(nn.Module):
    """Multi-head attention pooling with one learned query (big_vision's MAPHead)."""

    config: TowerConfig

    @nn.compact
    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        batch, _, width = x_BTD.shape
        probe = self.param("probe", nn.initializers.xavier_uniform(), (1, 1, width))
        probe_B1D = jnp.tile(probe.astype(x_BTD.dtype), (batch, 1, 1))
        x_B1D = Attention(self.config, name="MultiHeadDotProductAttention_0")(probe_B1D, x_BTD)
        y_B1D = layer_norm(self.config, "LayerNorm_0")(x_B1D)
        return (x_B1D + MlpBlock(self.config, name="MlpBlock_0")(y_B1D))[:, 0]

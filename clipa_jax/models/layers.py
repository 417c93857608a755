"""Transformer layers of both towers.

Parameter names are those of the released CLIPA checkpoints (released
`models/vit.py`), so that files can be exchanged leaf by leaf. Shapes: B batch,
T tokens, D width, H heads, K width of a head, M hidden width of the MLP.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from clipa_jax.sharding import split_batch

GELU: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": lambda x: nn.gelu(x, approximate=True),  # the released CLIPA
    "exact": lambda x: nn.gelu(x, approximate=False),  # open_clip
    "quick": lambda x: x * nn.sigmoid(1.702 * x),  # OpenAI's CLIP
}

# What a rematerialised layer keeps for the backward pass.
REMAT: dict[str, Any] = {
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_saveable,
    "dots_no_batch": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}

ATTENTION = ("auto", "xla", "cudnn")
LAYERS = ("unrolled", "scanned")


class MlpBlock(nn.Module):
    """Two dense layers with a GELU between them."""

    mlp_dim: int
    gelu: str
    dtype: Any

    @nn.compact
    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        init = {
            "kernel_init": nn.initializers.xavier_uniform(),
            "bias_init": nn.initializers.normal(stddev=1e-6),
            "dtype": self.dtype,
        }
        x_BTM = nn.Dense(self.mlp_dim, **init)(x_BTD)
        x_BTM = GELU[self.gelu](x_BTM)
        return nn.Dense(x_BTD.shape[-1], **init)(x_BTM)


class Attention(nn.Module):
    """Multi-head attention; its parameters are laid out as Flax's MultiHeadDotProductAttention.

    `implementation` is that of `jax.nn.dot_product_attention`; "auto" leaves the
    choice to JAX.
    """

    num_heads: int
    implementation: str
    dtype: Any

    @nn.compact
    def __call__(self, q_BTD: jax.Array, kv_BSD: jax.Array, *, causal: bool = False) -> jax.Array:
        width = q_BTD.shape[-1]
        init = {"kernel_init": nn.initializers.xavier_uniform(), "dtype": self.dtype}
        heads = (self.num_heads, width // self.num_heads)
        q_BTHK = nn.DenseGeneral(heads, name="query", **init)(q_BTD)
        k_BSHK = nn.DenseGeneral(heads, name="key", **init)(kv_BSD)
        v_BSHK = nn.DenseGeneral(heads, name="value", **init)(kv_BSD)
        implementation: Any = None if self.implementation == "auto" else self.implementation
        # Scaled before the product with the keys, as in Flax and so in the released code.
        q_BTHK = q_BTHK * heads[1] ** -0.5
        x_BTHK = jax.nn.dot_product_attention(
            q_BTHK, k_BSHK, v_BSHK, scale=1.0, is_causal=causal, implementation=implementation
        )
        return nn.DenseGeneral(width, axis=(-2, -1), name="out", **init)(x_BTHK)


class Block(nn.Module):
    """A pre-norm transformer layer."""

    num_heads: int
    mlp_dim: int
    gelu: str
    norm_eps: float
    causal: bool
    attention: str
    dtype: Any

    @nn.compact
    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        x_BTD = split_batch(x_BTD)
        y_BTD = nn.LayerNorm(epsilon=self.norm_eps, dtype=self.dtype, name="LayerNorm_0")(x_BTD)
        attention = Attention(
            self.num_heads, self.attention, self.dtype, name="MultiHeadDotProductAttention_0"
        )
        x_BTD = split_batch(x_BTD + attention(y_BTD, y_BTD, causal=self.causal))
        y_BTD = nn.LayerNorm(epsilon=self.norm_eps, dtype=self.dtype, name="LayerNorm_1")(x_BTD)
        mlp = MlpBlock(self.mlp_dim, self.gelu, self.dtype, name="MlpBlock_0")
        return split_batch(x_BTD + mlp(y_BTD))


class ScanBlock(Block):
    """`Block` in the form that `nn.scan` wants: (carry, input) -> (carry, output)."""

    @nn.compact
    def __call__(self, x_BTD: jax.Array, _: None) -> tuple[jax.Array, None]:  # type: ignore[override]
        return Block.__call__(self, x_BTD), None


class Transformer(nn.Module):
    """A stack of layers.

    With `layers="unrolled"` their parameters are `encoderblock_0`, `encoderblock_1`, ...;
    with "scanned" they are stacked along a first axis of `encoderblock`, which compiles
    once whatever the depth. `models.layout` turns one form into the other; checkpoints
    always hold the unrolled one.
    """

    depth: int
    num_heads: int
    mlp_dim: int
    gelu: str
    norm_eps: float
    causal: bool
    attention: str
    remat: str
    layers: str
    dtype: Any

    @nn.compact
    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        scanned = self.layers == "scanned"
        block: Any = ScanBlock if scanned else Block
        if self.remat != "none":
            # Inside a scan XLA cannot merge the recomputation with the first pass.
            block = nn.remat(block, policy=REMAT[self.remat], prevent_cse=not scanned)
        options = {
            "num_heads": self.num_heads,
            "mlp_dim": self.mlp_dim,
            "gelu": self.gelu,
            "norm_eps": self.norm_eps,
            "causal": self.causal,
            "attention": self.attention,
            "dtype": self.dtype,
        }
        if scanned:
            stack = nn.scan(
                block,
                variable_axes={"params": 0},
                split_rngs={"params": True},
                length=self.depth,
            )
            return stack(**options, name="encoderblock")(x_BTD, None)[0]
        for index in range(self.depth):
            x_BTD = block(**options, name=f"encoderblock_{index}")(x_BTD)
        return x_BTD


class MapHead(nn.Module):
    """Multi-head attention pooling with one learned query (big_vision's MAPHead)."""

    num_heads: int
    mlp_dim: int
    gelu: str
    norm_eps: float
    attention: str
    dtype: Any

    @nn.compact
    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        batch, _, width = x_BTD.shape
        probe = self.param("probe", nn.initializers.xavier_uniform(), (1, 1, width))
        probe_B1D = jnp.tile(probe.astype(x_BTD.dtype), (batch, 1, 1))
        pool = Attention(
            self.num_heads, self.attention, self.dtype, name="MultiHeadDotProductAttention_0"
        )
        x_B1D = pool(probe_B1D, x_BTD)
        y_B1D = nn.LayerNorm(epsilon=self.norm_eps, dtype=self.dtype, name="LayerNorm_0")(x_B1D)
        mlp = MlpBlock(self.mlp_dim, self.gelu, self.dtype, name="MlpBlock_0")
        return (x_B1D + mlp(y_B1D))[:, 0]

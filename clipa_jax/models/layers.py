"""Transformer layers of both towers.

Parameter names are those of the released CLIPA checkpoints (released
`models/vit.py`), so that files can be exchanged leaf by leaf. Shapes: B batch,
T tokens, D width, H heads, K width of a head, M hidden width of the MLP. With packed attention
tokens are flat: N rows of B sequences, where `T` stands below.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from clipa_jax import sharding
from clipa_jax.errors import ConfigError, unknown
from clipa_jax.models import packed
from clipa_jax.models.packed import Tiling
from clipa_jax.models.sizes import Tower

GELU: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": lambda x: nn.gelu(x, approximate=True),  # the released CLIPA
    "exact": lambda x: nn.gelu(x, approximate=False),  # open_clip
    "quick": lambda x: x * nn.sigmoid(1.702 * x),  # OpenAI's CLIP
}

# Values that a rematerialized layer saves for the backward pass, by a policy of JAX or by name, as
# "qkv+out": the projections, the weighted values, the attention's result, the MLP's hidden units
# before the GELU.
NAMED = ("qkv", "attention", "out", "hidden")
POLICIES: dict[str, Any] = {
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_saveable,
    "dots_no_batch": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}
# "auto" is for `planning.capacity` to replace; where it is not, nothing is recomputed.
REMAT = ("auto", "none", *POLICIES)

# Implementations of jax.nn.dot_product_attention, and the kernels of `models.packed`.
ATTENTION = ("auto", "xla", "cudnn", "packed")
LAYERS = ("unrolled", "scanned")


@dataclass(frozen=True, kw_only=True)
class TowerConfig(Tower):
    """Sizes and options of one tower."""

    embed_dim: int
    pool: str  # how one vector is taken from all positions, see the towers
    gelu: str  # in GELU
    norm_eps: float  # epsilon of all norms
    causal: bool = False  # whether a position attends only to those before it
    attention: str  # in ATTENTION; "auto" leaves the choice to JAX, which never takes "packed"
    remat: str  # in REMAT, or of NAMED
    layers: str  # in LAYERS
    unroll: int  # layers of an iteration of the scan
    dtype: Any  # of the arithmetic


def remat_policy(remat: str) -> Any:
    """The policy of `jax.checkpoint` for a setting, None for one that recomputes nothing.

    Raises `ConfigError` for an unknown one.
    """
    if remat in REMAT:
        return POLICIES.get(remat)
    names = remat.split("+")
    for name in names:
        if name not in NAMED:
            raise ConfigError(unknown("remat", name, (*REMAT, *NAMED)))
    return jax.checkpoint_policies.save_only_these_names(*names)


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
        x_BTM = checkpoint_name(nn.Dense(self.config.mlp_dim, **init)(x_BTD), "hidden")
        x_BTM = GELU[self.config.gelu](x_BTM)
        return nn.Dense(x_BTD.shape[-1], **init)(x_BTM)


class Attention(nn.Module):
    """Multi-head attention; its parameters are laid out as Flax's MultiHeadDotProductAttention.

    Pooling by attention, whose queries and keys differ in number, uses XLA's instead of "packed".
    """

    config: TowerConfig

    @nn.compact
    def __call__(self, q_BTD: jax.Array, kv_BSD: jax.Array, *, causal: bool = False) -> jax.Array:
        width, num_heads = q_BTD.shape[-1], self.config.num_heads
        init = {"kernel_init": nn.initializers.xavier_uniform(), "dtype": self.config.dtype}
        heads = (num_heads, width // num_heads)

        def project(x_BTD: jax.Array, name: str) -> jax.Array:
            return checkpoint_name(nn.DenseGeneral(heads, name=name, **init)(x_BTD), "qkv")

        q_BTHK, k_BSHK = project(q_BTD, "query"), project(kv_BSD, "key")
        v_BSHK = project(kv_BSD, "value")
        name = self.config.attention
        implementation: Any = {"auto": None, "packed": "xla"}.get(name, name)
        # Scaled before the product with the keys, as in Flax and so in the released code.
        q_BTHK = q_BTHK * heads[1] ** -0.5
        x_BTHK = jax.nn.dot_product_attention(
            q_BTHK, k_BSHK, v_BSHK, scale=1.0, is_causal=causal, implementation=implementation
        )
        x_BTHK = checkpoint_name(x_BTHK, "attention")
        x_BTD = nn.DenseGeneral(width, axis=(-2, -1), name="out", **init)(x_BTHK)
        return checkpoint_name(x_BTD, "out")


class PackedAttention(nn.Module):
    """`Attention` of flat tokens to themselves, by the packed kernels; the same parameters."""

    config: TowerConfig
    tiling: Tiling

    @nn.compact
    def __call__(self, x_ND: jax.Array) -> jax.Array:
        width, dtype = x_ND.shape[-1], self.config.dtype
        heads = (self.tiling.heads, self.tiling.head_width)
        q, k, v = (_Projection((width,), heads, name=name)() for name in ("query", "key", "value"))
        kernel_DE = packed.join(q[0], k[0], v[0], self.tiling).astype(dtype)  # E = 3D
        bias_E = packed.join(q[1], k[1], v[1], self.tiling)

        def attend(z_NE: jax.Array, bias_E: jax.Array) -> jax.Array:
            return packed.attention(z_NE, bias_E, self.tiling)

        x_ND = sharding.on_each_device(attend, x_ND @ kernel_DE, bias_E, self.tiling.stride)
        x_ND = checkpoint_name(x_ND, "attention")
        kernel_HKD, bias_D = _Projection(heads, (width,), name="out")()
        x_ND = x_ND @ kernel_HKD.reshape(width, width).astype(dtype) + bias_D.astype(dtype)
        return checkpoint_name(x_ND, "out")


class _Projection(nn.Module):
    """The parameters of a `DenseGeneral`."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array]:
        shape = self.inputs + self.outputs

        def init(key: jax.Array) -> jax.Array:
            matrix = math.prod(self.inputs), math.prod(self.outputs)
            return nn.initializers.xavier_uniform()(key, matrix).reshape(shape)

        return self.param("kernel", init), self.param("bias", nn.initializers.zeros, self.outputs)


class Block(nn.Module):
    """A pre-norm transformer layer; with a tiling, of flat tokens (N, D)."""

    config: TowerConfig
    tiling: Tiling | None = None

    @nn.compact
    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        x_BTD = self._split(x_BTD)
        y_BTD = layer_norm(self.config, "LayerNorm_0")(x_BTD)
        x_BTD = self._split(x_BTD + self._attention(y_BTD, "MultiHeadDotProductAttention_0"))
        y_BTD = layer_norm(self.config, "LayerNorm_1")(x_BTD)
        return self._split(x_BTD + MlpBlock(self.config, name="MlpBlock_0")(y_BTD))

    def _attention(self, x_BTD: jax.Array, name: str) -> jax.Array:
        if self.tiling is not None:
            return PackedAttention(self.config, self.tiling, name=name)(x_BTD)
        return Attention(self.config, name=name)(x_BTD, x_BTD, causal=self.config.causal)

    def _split(self, x_BTD: jax.Array) -> jax.Array:
        return sharding.split_batch(x_BTD, 1 if self.tiling is None else self.tiling.stride)


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
        if self.config.attention != "packed":
            return self._layers(x_BTD, None)
        tiling = tile(self.config, x_BTD.shape[1])
        return packed.unflatten(self._layers(packed.flatten(x_BTD, tiling), tiling), tiling)

    def _layers(self, x_BTD: jax.Array, tiling: Tiling | None) -> jax.Array:
        c = self.config
        scanned = c.layers == "scanned"
        block: Any = ScanBlock if scanned else Block
        policy = remat_policy(c.remat)
        if policy is not None:
            # Inside a scan XLA cannot merge the recomputation with the first pass.
            block = nn.remat(block, policy=policy, prevent_cse=not scanned)
        if scanned:
            stack = nn.scan(
                block,
                variable_axes={"params": 0},
                split_rngs={"params": True},
                length=c.depth,
                unroll=c.unroll,
            )
            return stack(c, tiling, name="encoderblock")(x_BTD, None)[0]
        for index in range(c.depth):
            x_BTD = block(c, tiling, name=f"encoderblock_{index}")(x_BTD)
        return x_BTD


def tile(config: TowerConfig, tokens: int) -> Tiling:
    """The tiling of a tower with packed attention for T tokens; `ConfigError` if it has none."""
    if config.dtype != jnp.bfloat16:
        raise ConfigError(
            f"model.attention=packed with model.dtype={jnp.dtype(config.dtype).name}: the kernels "
            "take bfloat16; set model.dtype=bfloat16, or use model.attention=xla"
        )
    head_width = config.width // config.num_heads
    return packed.tile(tokens, config.num_heads, head_width, causal=config.causal)


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

"""Attention of short sequences on TPU, several to a window of 128 rows.

The tokens of a tower stay flat, (N, D) with N = B * S rows: B sequences of S rows, of which the
first T are tokens and the rest padding (S = T wherever the kernel fits into VMEM that way). XLA's
attention writes scores padded to 128 lanes to HBM and transposes queries, keys and values; the
kernels in `packed_kernels.py` do neither. On CPU they run in Pallas' interpret mode.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from clipa_jax.errors import ConfigError
from clipa_jax.models import packed_kernels
from clipa_jax.models.packed_kernels import LANES, ROWS, Tiling

NAME = "packed_attention_{}_{}x{}x{}"  # of a kernel in profiles: forward or backward, T, H and K
MIN_TOKENS, MAX_TOKENS = 8, 640
# Bytes of a v5e or v6e chip's 128 MiB of VMEM that a kernel may use, and that `tile` plans with.
VMEM_LIMIT = 64 * 2**20
VMEM_PLANNED = 60 * 2**20
STEP_ROWS = 512  # of a grid step, so that its fixed cost is small
MAX_REPEATED = 0.05


def tile(
    tokens: int, heads: int, head_width: int, *, causal: bool = False, vmem: int = VMEM_PLANNED
) -> Tiling:
    """Sizes of the kernels for sequences of T tokens and a tower of H heads of width K.

    Prefers no padding, then full windows, then all heads in one grid step, within `vmem` bytes.

    Raises:
      ConfigError: a shape that is not supported, naming the nearest that is.
    """
    width = heads * head_width
    if width % LANES:
        nearest = max(round(width / LANES), 1) * LANES
        raise _unsupported(f"a width of {width}, not a multiple of {LANES}", nearest)
    lengths = range(MIN_TOKENS, MAX_TOKENS + 1)
    if tokens not in lengths:
        nearest = min(max(tokens, MIN_TOKENS), MAX_TOKENS)
        raise _unsupported(f"sequences of {tokens} tokens", nearest)
    tilings = (
        tiling
        for length in range(tokens, MIN_TOKENS - 1, -1)
        for tiling in _tilings(length, heads, head_width, causal)
        if vmem_bytes(tiling) <= vmem
    )
    tiling = next(tilings, None)
    shape = f"{tokens} tokens and {heads} heads of width {head_width}"
    if tiling is None:
        raise _unsupported(f"{shape} in {vmem:,} bytes of VMEM", "none")
    if tiling.tokens < tokens:
        raise _unsupported(f"{shape} in {vmem:,} bytes of VMEM", f"{tiling.tokens} tokens")
    return tiling


def _unsupported(shape: str, nearest: Any) -> ConfigError:
    return ConfigError(
        f"model.attention=packed does not support {shape}; nearest: {nearest}; or use "
        "model.attention=xla"
    )


def vmem_bytes(tiling: Tiling) -> int:
    """Bytes of the backward kernel: its blocks, each twice, and the scores of a window."""
    blocks = 7 * tiling.rows * tiling.lanes * 2  # qkv, dout, dqkv
    dbias = 8 * 3 * tiling.lanes * 4
    scores = 8 * tiling.window**2 * 4
    return 2 * (blocks + dbias) + scores


def _tilings(tokens: int, heads: int, head_width: int, causal: bool) -> Iterator[Tiling]:
    """Tilings of a shape, the fastest first."""
    whole = LANES // math.gcd(LANES, head_width)  # heads that fill whole tiles
    groups = [g for g in range(heads, 0, -1) if heads % g == 0 and g % whole == 0]
    strides = (tokens, _round_up(tokens, ROWS // 2), _round_up(tokens, ROWS))
    for stride in dict.fromkeys(strides):
        several = [g for g in range(LANES // stride, 1, -1) if _window(stride, g) <= LANES]
        for packed in (*several, 1):
            sequences = _sequences(stride, packed)
            for group in groups:
                yield Tiling(
                    tokens=tokens,
                    stride=stride,
                    heads=heads,
                    head_width=head_width,
                    causal=causal,
                    group=group,
                    sequences=sequences,
                    packed=packed,
                    window=min(_window(stride, packed), sequences * stride),
                )


def _sequences(stride: int, packed: int) -> int:
    """Sequences of a grid step: so many that its overheads are small."""
    sequences = _unit(stride)
    while sequences * stride < STEP_ROWS or _repeated(sequences, packed) > MAX_REPEATED:
        sequences *= 2
    return sequences


def for_batch(tiling: Tiling, sequences: int) -> Tiling:
    """The tiling, with a smaller grid step if that divides the number of sequences."""
    step, unit = tiling.sequences, _unit(tiling.stride)
    while step > unit and sequences % step:
        step //= 2
    packed = min(tiling.packed, step)
    window = min(_window(tiling.stride, packed), step * tiling.stride)
    return dataclasses.replace(tiling, sequences=step, packed=packed, window=window)


def _unit(stride: int) -> int:
    """The fewest sequences that fill whole tiles of rows, a power of two."""
    return ROWS // math.gcd(ROWS, stride)


def _window(stride: int, packed: int) -> int:
    """Rows of a window that holds `packed` sequences wherever they start."""
    span = packed * stride
    return span if span % ROWS == 0 else _round_up(span + ROWS - 1, ROWS)


def _repeated(sequences: int, packed: int) -> float:
    """The share of a grid step's sequences that its last window computes again."""
    return -sequences % packed / sequences


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def flatten(x_BTD: jax.Array, tiling: Tiling) -> jax.Array:
    """(B, T, D) -> (B * S, D), padded with zeros where S is more than T."""
    batch, tokens, width = x_BTD.shape
    if tiling.stride > tokens:
        x_BTD = jnp.pad(x_BTD, ((0, 0), (0, tiling.stride - tokens), (0, 0)))
    return x_BTD.reshape(batch * tiling.stride, width)


def unflatten(x_ND: jax.Array, tiling: Tiling) -> jax.Array:
    """(B * S, D) -> (B, T, D)."""
    x_BSD = x_ND.reshape(-1, tiling.stride, x_ND.shape[-1])
    return x_BSD[:, : tiling.tokens]


def join(q: jax.Array, k: jax.Array, v: jax.Array, tiling: Tiling) -> jax.Array:
    """Three (..., H, K) as one (..., 3D) in the kernels' order: q, k and v of each group."""
    groups = tiling.heads // tiling.group
    parts = [x.reshape(*x.shape[:-2], groups, 1, tiling.lanes) for x in (q, k, v)]
    return jnp.concatenate(parts, axis=-2).reshape(*q.shape[:-2], 3 * tiling.width)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def attention(z_N3D: jax.Array, bias_3D: jax.Array, tiling: Tiling) -> jax.Array:
    """Attention of projected tokens, (N, D).

    `z_N3D` are bfloat16 queries, keys and values without their float32 bias, both in the order of
    `join`; the backward kernel sums the gradient of the bias.
    """
    return _attention_fwd(z_N3D, bias_3D, tiling)[0]


def _attention_fwd(z_N3D: jax.Array, bias_3D: jax.Array, tiling: Tiling) -> tuple[Any, Any]:
    qkv_N3D = checkpoint_name(z_N3D + bias_3D.astype(z_N3D.dtype), "qkv")
    (out_ND,) = _call("forward", (qkv_N3D,), tiling)
    return out_ND[: len(qkv_N3D)], qkv_N3D


def _attention_bwd(tiling: Tiling, qkv_N3D: jax.Array, dout_ND: jax.Array) -> tuple[Any, Any]:
    dqkv_N3D, dbias_X3D = _call("backward", (qkv_N3D, dout_ND), tiling)
    return dqkv_N3D[: len(qkv_N3D)], dbias_X3D.sum(axis=0)


attention.defvjp(_attention_fwd, _attention_bwd)


def _call(kernel: str, arrays: tuple[jax.Array, ...], tiling: Tiling) -> Any:
    """Runs a kernel over all rows, padded to whole grid steps; on CPU it is interpreted."""
    rows = arrays[0].shape[0]
    tiling = for_batch(tiling, rows // tiling.stride)
    missing = -rows % tiling.rows
    if missing:
        arrays = tuple(jnp.pad(x, ((0, missing), (0, 0))) for x in arrays)
    call = functools.partial(_pallas_call, kernel, rows + missing, tiling)
    return lax.platform_dependent(*arrays, tpu=call(interpret=False), cpu=call(interpret=True))


def _pallas_call(kernel: str, rows: int, tiling: Tiling, *, interpret: bool) -> Callable[..., Any]:
    """The kernel as a function of its arrays, whose rows are a multiple of the tiling's."""
    R, C = tiling.rows, tiling.lanes
    steps = rows // R

    def block(height: int, lanes: int) -> pl.BlockSpec:
        return pl.BlockSpec((height, lanes), lambda i, j: (i, j))

    def shape(height: int, width: int, dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((height, width), dtype)

    D = tiling.width
    qkv, out = block(R, 3 * C), block(R, C)
    qkv_shape = shape(rows, 3 * D, jnp.bfloat16)
    inputs, outputs, shapes = {
        "forward": ([qkv], [out], [shape(rows, D, jnp.bfloat16)]),
        "backward": (
            [qkv, out],
            [qkv, block(8, 3 * C)],
            [qkv_shape, shape(8 * steps, 3 * D, jnp.float32)],
        ),
    }[kernel]
    # Two or five products of (T, T, K); bytes of all arrays.
    products, arrays = {"forward": (2, 4), "backward": (5, 7)}[kernel]
    return pl.pallas_call(
        functools.partial(getattr(packed_kernels, kernel), tiling=tiling),
        grid=(steps, tiling.heads // tiling.group),
        in_specs=inputs,
        out_specs=outputs,
        out_shape=shapes,
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("arbitrary", "arbitrary"), vmem_limit_bytes=VMEM_LIMIT
        ),
        cost_estimate=pl.CostEstimate(
            flops=2 * products * rows * tiling.tokens * D,
            transcendentals=rows * tiling.tokens * tiling.heads,
            bytes_accessed=2 * arrays * rows * D,
        ),
        interpret=interpret,
        name=NAME.format(kernel, tiling.tokens, tiling.heads, tiling.head_width),
    )

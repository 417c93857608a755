"""Pallas kernels for TPU: attention of short sequences, several to a window of rows.

Tokens are flat, heads side by side as the projection leaves them. A grid step holds whole
sequences (R rows) of one group of heads (C = group * K lanes each of queries, keys and values).
A window of W rows, aligned to the 16 rows of a bfloat16 tile, covers one or more sequences; pairs
of rows that do not belong together are masked. Head h is lanes [hK, hK + K): instead of moving
lanes, the lanes of the other heads are zeroed in one factor and whole tiles of 128 lanes are
multiplied, so that any head width works. `packed.py` chooses the sizes.

Within a kernel `//` and `%` are avoided: their lowering asks for the default backend, which is
not the TPU when compiling ahead of time.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

LANES = 128  # of a tile
ROWS = 16  # of a bfloat16 tile
LOG2E = math.log2(math.e)
MASKED = -1e30

NT, NN, TN = ((1,), (1,)), ((1,), (0,)), ((0,), (0,))  # contracted axes of (left, right)


@dataclass(frozen=True)
class Tiling:
    """Sizes of a kernel."""

    tokens: int  # T of a sequence
    stride: int  # rows from one sequence to the next; those after the first T are padding
    heads: int  # H
    head_width: int  # K
    causal: bool  # whether a token attends only to itself and those before it
    group: int  # heads of a grid step
    sequences: int  # sequences of a grid step
    packed: int  # sequences of a window
    window: int  # W, rows of a window

    @property
    def rows(self) -> int:
        """R, rows of a grid step."""
        return self.sequences * self.stride

    @property
    def lanes(self) -> int:
        """C, lanes of the group's queries."""
        return self.group * self.head_width

    @property
    def width(self) -> int:
        """D, lanes of all heads."""
        return self.heads * self.head_width

    @property
    def windows(self) -> int:
        """Windows of a grid step; the last one starts earlier where they do not divide."""
        return -(-self.sequences // self.packed)


@dataclass(frozen=True)
class _Window:
    """Rows of a window."""

    first: jax.Array  # index of its first row within the grid step, a multiple of 16
    edge: int  # leading rows that may belong to the window before
    bias_WW: jax.Array  # 0 where a row attends to a column, else -1e30
    own_W1: jax.Array  # whether a row is not before the window's sequences
    new_W1: jax.Array  # whether a row is one of the window's sequences and of none before it


def forward(qkv_ref: Any, out_ref: Any, *, tiling: Tiling) -> None:
    """Attention of a grid step: qkv (R, 3C) to out (R, C), bfloat16."""
    C, K = tiling.lanes, tiling.head_width
    scale = K**-0.5 * LOG2E

    def attend(index: jax.Array, carry: int) -> int:
        window = _window(index, tiling, transposed=False)
        rows = pl.ds(window.first, tiling.window)
        sums: dict[Any, jax.Array] = {}
        for head in range(tiling.group):
            start, end = head * K, (head + 1) * K
            tiles = _tiles(start, end)
            q, k, v = (qkv_ref[rows, pl.ds(j * C + tiles.start, len(tiles))] for j in range(3))
            k, v = (_keep(x, start - tiles.start, end - tiles.start) for x in (k, v))
            s_WW = _dot(q, k, NT) + window.bias_WW
            p_WW = jnp.exp2((s_WW - s_WW.max(axis=1, keepdims=True)) * scale)
            p_WW = p_WW * (1.0 / p_WW.sum(axis=1, keepdims=True))
            part = _dot(p_WW.astype(jnp.bfloat16), v, NN)
            for lane, total in _complete(sums, "out", tiles, part, end):
                _store(out_ref, window, lane, total)
        return carry

    lax.fori_loop(0, tiling.windows, attend, 0)


def backward(qkv_ref: Any, dout_ref: Any, dqkv_ref: Any, dbias_ref: Any, *, tiling: Tiling) -> None:
    """Gradients of a grid step, from recomputed probabilities.

    qkv (R, 3C), dout (R, C) to dqkv (R, 3C), bfloat16, and dbias (8, 3C) float32, whose sum over
    its rows is the sum of dqkv over its rows.
    """
    C, K = tiling.lanes, tiling.head_width
    scale = K**-0.5
    dbias_ref[...] = jnp.zeros(dbias_ref.shape, jnp.float32)

    def differentiate(index: jax.Array, carry: int) -> int:
        window = _window(index, tiling, transposed=True)
        rows = pl.ds(window.first, tiling.window)
        sums: dict[Any, jax.Array] = {}
        for head in range(tiling.group):
            start, end = head * K, (head + 1) * K
            tiles = _tiles(start, end)
            q, k, v = (qkv_ref[rows, pl.ds(j * C + tiles.start, len(tiles))] for j in range(3))
            do = dout_ref[rows, pl.ds(tiles.start, len(tiles))]
            q, k, v, do = (_keep(x, start - tiles.start, end - tiles.start) for x in (q, k, v, do))
            s_WW = _dot(k, q, NT) + window.bias_WW  # (keys, queries)
            p_WW = jnp.exp2((s_WW - s_WW.max(axis=0, keepdims=True)) * (scale * LOG2E))
            p_WW = p_WW * (1.0 / p_WW.sum(axis=0, keepdims=True))
            dp_WW = _dot(v, do, NT)
            delta_1W = (p_WW * dp_WW).sum(axis=0, keepdims=True)
            ds_WW = (p_WW * (dp_WW - delta_1W) * scale).astype(jnp.bfloat16)
            dv = _dot(p_WW.astype(jnp.bfloat16), do, NN)
            for j, part in enumerate((_dot(ds_WW, k, TN), _dot(ds_WW, q, NN), dv)):
                for lane, total in _complete(sums, j, tiles, part, end):
                    _store(dqkv_ref, window, j * C + lane, total)
                    _add_bias(dbias_ref, window, j * C + lane, total)
        return carry

    lax.fori_loop(0, tiling.windows, differentiate, 0)


def _window(index: jax.Array, tiling: Tiling, *, transposed: bool) -> _Window:
    """The window of an index; the mask's rows are queries, or keys if transposed."""
    T, S, W, g = tiling.tokens, tiling.stride, tiling.window, tiling.packed
    start = unseen = index * jnp.int32(g * S)
    if tiling.sequences % g:
        start = jnp.minimum(start, jnp.int32(tiling.rows - g * S))
    first, edge = start, 0
    if g * S % ROWS:
        first = jnp.minimum(lax.bitwise_and(start, jnp.int32(-ROWS)), jnp.int32(tiling.rows - W))
        edge = min(W, 2 * ROWS)
    first = pl.multiple_of(first, ROWS)
    row_W1 = first - start + lax.broadcasted_iota(jnp.int32, (W, 1), 0)
    column_1W = first - start + lax.broadcasted_iota(jnp.int32, (1, W), 1)
    bounds = [j * S for j in range(g + 1)]
    if S > T:
        bounds += [j * S + T for j in range(g)]
    together = _segment(row_W1, bounds) == _segment(column_1W, bounds)
    if tiling.causal:
        together &= (row_W1 <= column_1W) if transposed else (column_1W <= row_W1)
    bias_WW = jnp.where(together, 0.0, MASKED).astype(jnp.float32)
    new_W1 = (row_W1 >= unseen - start) & (row_W1 < g * S)
    return _Window(first, edge, bias_WW, row_W1 >= 0, new_W1)


def _segment(position: jax.Array, bounds: list[int]) -> jax.Array:
    """The number of bounds that are at most `position`: equal within a sequence only."""
    count = jnp.zeros_like(position)
    for bound in bounds:
        count = count + (position >= bound).astype(jnp.int32)
    return count


def _tiles(start: int, end: int) -> range:
    """The lanes of the whole tiles around lanes [start, end)."""
    return range(start // LANES * LANES, -(-end // LANES) * LANES)


def _keep(x_WL: jax.Array, start: int, end: int) -> jax.Array:
    """A bfloat16 (W, L) with zeros outside lanes [start, end)."""
    rows, lanes = x_WL.shape
    if start <= 0 and end >= lanes:
        return x_WL
    # As pairs of rows in 32 bits, on which a v5e can do a bit-and.
    lane = lax.broadcasted_iota(jnp.int32, (rows // 2, lanes), 1)
    mask = jnp.where((lane >= start) & (lane < end), jnp.int32(-1), jnp.int32(0))
    return pltpu.bitcast(pltpu.bitcast(x_WL, jnp.int32) & mask, jnp.bfloat16)


def _dot(a: jax.Array, b: jax.Array, axes: tuple[tuple[int], tuple[int]]) -> jax.Array:
    return lax.dot_general(a, b, (axes, ((), ())), preferred_element_type=jnp.float32)


def _complete(
    sums: dict[Any, jax.Array], key: Any, tiles: range, part: jax.Array, end: int
) -> Iterator[tuple[int, jax.Array]]:
    """Adds a head's part (W, len(tiles)) to the sums of its tiles.

    Yields (first lane, float32 (W, 128)) of each tile whose last head is the one that ends at
    `end`, and forgets it.
    """
    for lane in tiles[::LANES]:
        tile = part[:, lane - tiles.start : lane - tiles.start + LANES]
        total = sums.pop((key, lane)) + tile if (key, lane) in sums else tile
        if lane + LANES <= end:
            yield lane, total
        else:
            sums[key, lane] = total


def _store(ref: Any, window: _Window, lane: int, value: jax.Array) -> None:
    """Writes float32 (W, 128) at a lane; rows of the window before keep their values."""
    edge, rows, width = window.edge, *value.shape
    if edge:
        at = (pl.ds(window.first, edge), pl.ds(lane, width))
        kept = ref[at].astype(jnp.float32)
        ref[at] = jnp.where(window.own_W1[:edge], value[:edge], kept).astype(ref.dtype)
    if edge < rows:
        after = pl.multiple_of(window.first + edge, ROWS)
        ref[pl.ds(after, rows - edge), pl.ds(lane, width)] = value[edge:].astype(ref.dtype)


def _add_bias(ref: Any, window: _Window, lane: int, value: jax.Array) -> None:
    """Adds the rows of float32 (W, 128) that belong to the window, in 8 partial sums."""
    new = jnp.where(window.new_W1, value, 0.0)
    partial = new.reshape(value.shape[0] // 8, 8, LANES).sum(axis=0)
    ref[:, pl.ds(lane, LANES)] += partial

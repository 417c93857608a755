"""A walk over all B x B logits that never holds more than a tile of them.

Each device keeps the rows of its images. The columns of its texts go round the mesh, from
device to device, with whatever has been summed up for them; after as many turns as there are
devices they are home again, and every image has met every text once. What a device meets in
a turn it takes in square tiles.

Why a ring, and not a copy of all embeddings on each device: at a batch of 65,536, an embedding
of 1,024 and 64 devices such a copy is 256 MiB a device, and its gradient as much again, while
the blocks that travel are 4 MiB each. Nothing more is sent than gathering and scattering would
send, texts travel while the device computes, and one walk serves both directions of the loss,
since sums over columns travel along.

n rows on a device, R rows and C columns of a tile.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from clipa_jax import sharding
from clipa_jax.losses.pairs import Marks, mark

# Rows and columns of a tile at most: 64 MiB of float32 logits. Matrix units are busy with
# less; smaller tiles would read and write the sums more often.
SIDE = 4096
_NO_ROW, _NO_COLUMN = -1, -2  # places of padding


class Side(NamedTuple):
    """The rows or the columns of some logits, each attribute with a leading axis of them.

    Attributes:
      z: float32 embeddings.
      caption: int32 hashes of captions, or None, see `pairs.mark`.
      extra: whatever else a tile wants to know of them.
    """

    z: jax.Array
    caption: jax.Array | None = None
    extra: Any = None


# (scalars, rows, columns, marks, row_sums, column_sums) -> (row_sums, column_sums)
Tile = Callable[[Any, Side, Side, Marks, Any, Any], tuple[Any, Any]]


def fold(
    tile: Tile,
    mesh: Mesh,
    scalars: Any,
    rows: Side,
    columns: Side,
    row_sums: Any,
    column_sums: Any,
    *,
    side: int = SIDE,
) -> tuple[Any, Any]:
    """Sums over the rows and the columns of all logits.

    Args:
      tile: adds what a tile of logits gives to the sums of its rows and columns. A pure
        function of arrays; called for every tile of the B x B, in any order.
      mesh: from `sharding.make_mesh`; the batch is split over its data-parallel axes.
      scalars: tree of what all tiles need to know.
      rows, columns: of the global batch, a leading axis of B.
      row_sums, column_sums: trees of arrays with a leading axis of B: where sums start.
      side: rows and columns of a tile at most. A block that does not divide is padded, with
        at most one row a tile; padding is marked as ignored.

    Returns:
      (row_sums, column_sums), after all tiles.

    Raises:
      ConfigError: B does not divide over the devices.
    """
    batch = rows.z.shape[0]
    sharding.check_batch(batch, mesh)
    place_B = jnp.arange(batch, dtype=jnp.int32)
    devices = mesh.shape["replica"] * mesh.shape["fsdp"]
    split, whole = sharding.BATCH, jax.sharding.PartitionSpec()
    return jax.shard_map(
        functools.partial(_walk, tile, devices, side),
        mesh=mesh,
        in_specs=(whole, *[split] * 5),
        out_specs=(split, split),
    )(scalars, place_B, rows, columns, row_sums, column_sums)


def _walk(
    tile: Tile,
    devices: int,
    side: int,
    scalars: Any,
    place_n: jax.Array,
    rows: Side,
    columns: Side,
    row_sums: Any,
    column_sums: Any,
) -> tuple[Any, Any]:
    """What one device does: its n rows meet the columns of every device in turn."""
    grid = _Grid.of(place_n.size, side)
    here = (grid.cut(rows), grid.cut(place_n, _NO_ROW))
    visitors = (grid.cut(columns), grid.cut(place_n, _NO_COLUMN))

    def turn(_: jax.Array, carry: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        visitors, *sums = carry
        row_sums, column_sums = _block(tile, grid, scalars, here, visitors, tuple(sums))
        visitors, column_sums = _pass_on((visitors, column_sums), devices)
        return visitors, row_sums, column_sums

    carry = (visitors, grid.cut(row_sums), grid.cut(column_sums))
    _, row_sums, column_sums = _repeat(devices, turn, carry)
    return grid.join(row_sums), grid.join(column_sums)


def _block(
    tile: Tile, grid: "_Grid", scalars: Any, here: Any, visitors: Any, sums: tuple[Any, Any]
) -> tuple[Any, Any]:
    """All tiles of a device's rows and the columns that it has in this turn."""

    def step(t: jax.Array, sums: tuple[Any, Any]) -> tuple[Any, Any]:
        i, j = t // grid.count, t % grid.count
        (row, row_place), (column, column_place) = _at(here, i), _at(visitors, j)
        marks = mark(row_place, column_place, row.caption, column.caption)
        if grid.padded:
            marks = _without(marks, row_place, column_place)
        done = tile(scalars, row, column, marks, _at(sums[0], i), _at(sums[1], j))
        return _put(sums[0], i, done[0]), _put(sums[1], j, done[1])

    return _repeat(grid.count**2, step, sums)


@dataclass(frozen=True)
class _Grid:
    """How n rows are cut into `count` parts of `width`; the last part may be padded."""

    n: int
    count: int
    width: int

    @classmethod
    def of(cls, n: int, side: int) -> "_Grid":
        count = -(-n // side)
        return cls(n, count, -(-n // count))

    @property
    def padded(self) -> bool:
        return self.count * self.width > self.n

    def cut(self, tree: Any, fill: int = 1) -> Any:
        """(n, ...) -> (count, width, ...); padding is ignored, but must not make NaN."""

        def one(x: jax.Array) -> jax.Array:
            if self.padded:
                pad = [(0, self.count * self.width - self.n), *[(0, 0)] * (x.ndim - 1)]
                x = jnp.pad(x, pad, constant_values=fill)
            return x.reshape(self.count, self.width, *x.shape[1:])

        return jax.tree.map(one, tree)

    def join(self, tree: Any) -> Any:
        """The inverse."""
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[: self.n], tree)


def _repeat(times: int, step: Callable[[jax.Array, Any], Any], carry: Any) -> Any:
    """`step` so many times; one that runs once is no loop to the compiler."""
    return step(jnp.int32(0), carry) if times == 1 else jax.lax.fori_loop(0, times, step, carry)


def _pass_on(tree: Any, devices: int) -> Any:
    """What every device holds goes to the next one."""
    if devices == 1:
        return tree
    ring = [(source, (source + 1) % devices) for source in range(devices)]
    return jax.tree.map(lambda x: jax.lax.ppermute(x, ("replica", "fsdp"), ring), tree)


def _at(tree: Any, i: jax.Array) -> Any:
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), tree)


def _put(tree: Any, i: jax.Array, part: Any) -> Any:
    return jax.tree.map(
        lambda x, y: jax.lax.dynamic_update_index_in_dim(x, y, i, axis=0), tree, part
    )


def _without(marks: Marks, row_place_R: jax.Array, column_place_C: jax.Array) -> Marks:
    """The marks with padding ignored."""
    padding = (row_place_R < 0)[:, None] | (column_place_C < 0)[None, :]
    ignored = padding if marks.ignored_RC is None else marks.ignored_RC | padding
    return Marks(marks.own_RC, ignored)

"""Sums over all B x B logits, one tile at a time, with texts passed around a ring of devices.

Each device keeps its images. Blocks of texts and the sums over their columns travel from device
to device; after one round they are back, and every image has met every text once. Each device
processes a block in square tiles.

Gathering all embeddings instead would take 256 MiB per device, and as much for their gradient, at
a batch of 65,536, an embedding of 1,024 and 64 devices; the travelling blocks take 4 MiB each. The
communication is that of gathering and scattering, and serves both directions of the loss.

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
from clipa_jax.losses.pairs import PairMask, pair_mask

# Maximum rows and columns of a tile: 64 MiB of float32 logits. Smaller tiles keep matrix units
# busy too, but read and write the sums more often.
TILE = 4096
_NO_ROW, _NO_COLUMN = -1, -2  # indices of padding


class Side(NamedTuple):
    """The rows or the columns of logits; each attribute has them as its leading axis."""

    z: jax.Array  # float32 embeddings
    caption: jax.Array | None = None  # int32 hashes of captions, see `pairs.pair_mask`
    extra: Any = None  # further arrays that the tile function needs


# Trees of sums over the rows and over the columns, with these as their leading axis.
Sums = tuple[Any, Any]
# (scalars, rows, columns, mask, sums) -> sums
AddTile = Callable[[Any, Side, Side, PairMask, Sums], Sums]


@dataclass(frozen=True)
class Ring:
    """The devices that share the logits, and the maximum rows and columns of a tile.

    The batch is split over the data-parallel axes of the mesh. A block that does not divide into
    tiles is padded, with at most one row per tile; padding is ignored.
    """

    mesh: Mesh
    tile: int = TILE

    def fold(self, add_tile: AddTile, scalars: Any, rows: Side, columns: Side, sums: Sums) -> Sums:
        """Sums over the rows and the columns of all logits.

        Args:
          add_tile: adds a tile of logits to the sums of its rows and columns. A pure function of
            arrays, called once for every tile, in any order.
          scalars: tree passed to every tile.
          rows, columns: of the global batch, B; it must divide over the devices.
          sums: initial ones.
        """
        batch = rows.z.shape[0]
        sharding.check_batch(batch, self.mesh)
        index_B = jnp.arange(batch, dtype=jnp.int32)
        split, whole = sharding.BATCH, jax.sharding.PartitionSpec()
        return jax.shard_map(
            functools.partial(self._walk, add_tile),
            mesh=self.mesh,
            in_specs=(whole, *[split] * 4),
            out_specs=(split, split),
        )(scalars, index_B, rows, columns, sums)

    def _walk(
        self,
        add_tile: AddTile,
        scalars: Any,
        index_n: jax.Array,
        rows: Side,
        columns: Side,
        sums: Sums,
    ) -> Sums:
        """The work of one device: its n rows meet the columns of every device in turn."""
        devices, grid = sharding.data_parallel(self.mesh), _Grid.of(index_n.size, self.tile)
        own = (grid.cut(rows), grid.cut(index_n, _NO_ROW))
        visiting = (grid.cut(columns), grid.cut(index_n, _NO_COLUMN))

        def turn(_: jax.Array, carry: tuple[Any, Sums]) -> tuple[Any, Sums]:
            visiting, sums = carry
            row_sums, column_sums = _block(add_tile, grid, scalars, own, visiting, sums)
            visiting, column_sums = _pass_on((visiting, column_sums), devices)
            return visiting, (row_sums, column_sums)

        _, sums = _repeat(devices, turn, (visiting, grid.cut(sums)))
        return grid.join(sums)


def _block(
    add_tile: AddTile, grid: "_Grid", scalars: Any, own: Any, visiting: Any, sums: Sums
) -> Sums:
    """All tiles of a device's rows and the visiting columns."""

    def step(t: jax.Array, sums: Sums) -> Sums:
        i, j = t // grid.count, t % grid.count
        (row, row_index), (column, column_index) = _at(own, i), _at(visiting, j)
        mask = pair_mask(row_index, column_index, row.caption, column.caption)
        if grid.padded:
            mask = _without_padding(mask, row_index, column_index)
        tile_sums = (_at(sums[0], i), _at(sums[1], j))
        row_sums, column_sums = add_tile(scalars, row, column, mask, tile_sums)
        return _put(sums[0], i, row_sums), _put(sums[1], j, column_sums)

    return _repeat(grid.count**2, step, sums)


@dataclass(frozen=True)
class _Grid:
    """n rows in `count` parts of `width`, the last one padded if need be."""

    n: int
    count: int
    width: int

    @classmethod
    def of(cls, n: int, tile: int) -> "_Grid":
        count = -(-n // tile)
        return cls(n, count, -(-n // count))

    @property
    def padded(self) -> bool:
        return self.count * self.width > self.n

    def cut(self, tree: Any, fill: int = 1) -> Any:
        """(n, ...) -> (count, width, ...); the fill must not give NaN."""

        def cut_leaf(x: jax.Array) -> jax.Array:
            if self.padded:
                pad = [(0, self.count * self.width - self.n), *[(0, 0)] * (x.ndim - 1)]
                x = jnp.pad(x, pad, constant_values=fill)
            return x.reshape(self.count, self.width, *x.shape[1:])

        return jax.tree.map(cut_leaf, tree)

    def join(self, tree: Any) -> Any:
        """The inverse of `cut`."""
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[: self.n], tree)


def _repeat(times: int, step: Callable[[jax.Array, Any], Any], carry: Any) -> Any:
    """Runs `step` `times` times; a single run is compiled without a loop."""
    return step(jnp.int32(0), carry) if times == 1 else jax.lax.fori_loop(0, times, step, carry)


def _pass_on(tree: Any, devices: int) -> Any:
    """Sends the arrays of every device to the next one."""
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


def _without_padding(mask: PairMask, row_index_R: jax.Array, column_index_C: jax.Array) -> PairMask:
    """The mask with padding ignored."""
    padding = (row_index_R < 0)[:, None] | (column_index_C < 0)[None, :]
    return PairMask(
        mask.positive_RC, padding if mask.ignored_RC is None else mask.ignored_RC | padding
    )

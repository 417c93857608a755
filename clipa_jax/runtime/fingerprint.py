"""A checksum of a tree of arrays, independent of the mesh.

Checkpoint files are compressed but have no checksum, so a bit flipped by a disk or network would
change a weight. The checksum is stored with them and compared after reading.
"""

import functools
import math
import zlib
from typing import Any

import jax
import jax.numpy as jnp

from clipa_jax import trees
from clipa_jax.runtime import distributed

_UNSIGNED = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


def of(tree: Any) -> int:
    """The fingerprint of a tree of arrays, between 0 and 2^32 - 1, the same on every process.

    Any single wrong entry or renamed leaf changes it. Integer sums are exact in any order, so it
    does not depend on shardings: each process sums its shards, and only totals are exchanged.
    Entries have 1, 2 or 4 bytes; the arrays are all global or all on this process.
    """
    leaves = {name: jnp.asarray(leaf) for name, leaf in trees.flatten(tree).items()}
    sums = [
        (zlib.crc32(name.encode()) | 1, _sum_of(shard, leaf.shape))
        for name, leaf in leaves.items()
        for shard in leaf.addressable_shards
        if shard.replica_id == 0
    ]
    factors, numbers = (
        [factor for factor, _ in sums],
        jax.device_get([number for _, number in sums]),
    )
    total = sum(f * int(n) for f, n in zip(factors, numbers, strict=True)) % 2**32
    if all(leaf.is_fully_addressable for leaf in leaves.values()):
        return total
    high, low = distributed.from_all(total >> 16), distributed.from_all(total & 0xFFFF)
    return ((sum(high) << 16) + sum(low)) % 2**32


def _sum_of(shard: Any, shape: tuple[int, ...]) -> jax.Array:
    """The part of a shard in the sum of its array, which has this shape."""
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    begins = [part.indices(size)[0] for part, size in zip(shard.index, shape, strict=True)]
    first = sum(begin * stride for begin, stride in zip(begins, strides, strict=True))
    return _weighted_sum(shard.data, jnp.uint32(first % 2**32), tuple(s % 2**32 for s in strides))


# Compiled once per shape of shards: a large model has thousands of leaves.
@functools.partial(jax.jit, static_argnums=2)
def _weighted_sum(x: jax.Array, first: jax.Array, strides: tuple[int, ...]) -> jax.Array:
    """uint32 (): the sum of the bits of all entries, each times an odd number from its index.

    `x` is a part of an array with these strides; `first` is the flat index of its first entry
    there.
    """
    bits = jax.lax.bitcast_convert_type(x, _UNSIGNED[x.dtype.itemsize]).astype(jnp.uint32)
    index = jnp.broadcast_to(first, x.shape)
    for axis, stride in enumerate(strides):
        iota = jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
        index = index + jnp.uint32(stride) * iota
    return jnp.sum(bits * (2 * index + 1), dtype=jnp.uint32)

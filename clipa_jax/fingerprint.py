"""A number that stands for every bit of a tree of arrays, on any mesh.

Files of a checkpoint are compressed, not checksummed: a bit that a disk or a network turned
comes back as another weight. So the number is stored beside them and computed again after
they were read.
"""

import zlib
from typing import Any

import jax
import jax.numpy as jnp

from clipa_jax import trees

_UNSIGNED = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


def of(tree: Any) -> int:
    """The fingerprint of a tree of arrays, between 0 and 2^32 - 1.

    Any one wrong entry changes it, and a leaf under another name. Sums of integers are exact in
    any order, so it does not depend on how the arrays lie on the devices.

    Args:
      tree: of global arrays with entries of 1, 2 or 4 bytes.
    """
    leaves = trees.flatten(tree)
    sums = jax.device_get([_weighted_sum(leaf) for leaf in leaves.values()])
    named = zip(leaves, sums, strict=True)
    return sum((zlib.crc32(name.encode()) | 1) * int(number) for name, number in named) % 2**32


@jax.jit  # one compilation for all leaves of a shape: a large model has thousands of leaves
def _weighted_sum(leaf: jax.Array) -> jax.Array:
    """uint32 (): the sum of all entries as bits, each times an odd number of its place."""
    bits = jax.lax.bitcast_convert_type(leaf, _UNSIGNED[leaf.dtype.itemsize]).astype(jnp.uint32)
    factor, stride = jnp.uint32(1), 2
    for axis in reversed(range(leaf.ndim)):
        place = jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis)
        factor, stride = factor + jnp.uint32(stride % 2**32) * place, stride * leaf.shape[axis]
    return jnp.sum(bits * factor, dtype=jnp.uint32)

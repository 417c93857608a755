"""Two layouts of the same weights: an entry per layer, or all layers stacked for a scan.

Checkpoints always hold the unrolled layout.
"""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from clipa_jax import trees

_STACKED = re.compile(r"(.*/)?encoderblock/(.*)")


def unroll(tree: Any) -> dict[str, Any]:
    """Nested dicts with stacked layers split into `encoderblock_0`, ...; traceable.

    Args:
      tree: of arrays: parameters, or a tree whose leaf names end in those of parameters.
    """
    return _unroll(tree, lambda leaf: [leaf[index] for index in range(leaf.shape[0])])


def unrolled_shapes(tree: Any) -> dict[str, Any]:
    """`unroll` for a tree of `jax.ShapeDtypeStruct` with named shardings."""

    def split(leaf: jax.ShapeDtypeStruct) -> list[jax.ShapeDtypeStruct]:
        assert isinstance(leaf.sharding, NamedSharding)
        sharding = NamedSharding(leaf.sharding.mesh, P(*leaf.sharding.spec[1:]))
        layer = jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype, sharding=sharding)
        return [layer] * leaf.shape[0]

    return _unroll(tree, split)


def like(tree: Any, unrolled: Any) -> Any:
    """`unrolled` in the layout and structure of `tree`; traceable.

    Args:
      tree: of shapes or arrays, with stacked layers or without.
      unrolled: nested dicts from `unroll`.
    """
    leaves = trees.flatten(unrolled)

    def pick(name: str, shape: Any) -> Any:
        stacked = _STACKED.fullmatch(name)
        if not stacked:
            return leaves[name]
        prefix, rest = stacked.group(1) or "", stacked.group(2)
        names = (f"{prefix}encoderblock_{index}/{rest}" for index in range(shape.shape[0]))
        return jnp.stack([leaves[name] for name in names])

    return trees.map_with_names(pick, tree)


def _unroll(tree: Any, split: Callable[[Any], list[Any]]) -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for name, leaf in trees.flatten(tree).items():
        stacked = _STACKED.fullmatch(name)
        if not stacked:
            leaves[name] = leaf
            continue
        prefix, rest = stacked.group(1) or "", stacked.group(2)
        for index, layer in enumerate(split(leaf)):
            leaves[f"{prefix}encoderblock_{index}/{rest}"] = layer
    return trees.unflatten(leaves)

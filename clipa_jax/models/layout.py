"""Two layouts of the same weights: an entry per layer, or all layers stacked for a scan.

Checkpoints always hold the unrolled layout. A stack is named `encoderblock`; a stack of only some
layers has the index of its first layer in its name: `encoderblock@3`.
"""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from clipa_jax import trees

_STACKED = re.compile(r"(.*/)?encoderblock(?:@(\d+))?/(.*)")


def unrolled_names(name: str, leaf: Any) -> list[str]:
    """The unrolled names of a leaf: one per layer if it is a stack, else its own name."""
    stacked = _STACKED.fullmatch(name)
    if not stacked:
        return [name]
    prefix, start, rest = stacked.group(1) or "", int(stacked.group(2) or 0), stacked.group(3)
    layers = range(start, start + leaf.shape[0])
    return [f"{prefix}encoderblock_{index}/{rest}" for index in layers]


def is_stacked(name: str) -> bool:
    """Whether a leaf of this name is a stack of layers."""
    return _STACKED.fullmatch(name) is not None


def stack_name(name: str, start: int) -> str:
    """The name of the part of the stack `name` that begins at layer `start`."""
    return name.replace("encoderblock/", f"encoderblock@{start}/")


def unroll(tree: Any) -> dict[str, Any]:
    """Nested dicts with stacked layers split into `encoderblock_0`, ...; traceable.

    Takes parameters, or a tree whose leaf names end in those of parameters.
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
    """Nested dicts from `unroll` in the layout and structure of `tree`; traceable."""
    leaves = trees.flatten(unrolled)

    def pick(name: str, leaf: Any) -> Any:
        parts = [leaves[part] for part in unrolled_names(name, leaf)]
        return jnp.stack(parts) if is_stacked(name) else parts[0]

    return trees.map_with_names(pick, tree)


def _unroll(tree: Any, split: Callable[[Any], list[Any]]) -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for name, leaf in trees.flatten(tree).items():
        parts = split(leaf) if is_stacked(name) else [leaf]
        leaves.update(zip(unrolled_names(name, leaf), parts, strict=True))
    return trees.unflatten(leaves)

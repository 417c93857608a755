"""Pytrees whose leaves have names, and first-match regex rules over the names.

A name is the path of a leaf joined by slashes, as in the released checkpoints:
`img/Transformer/encoderblock_0/MlpBlock_0/Dense_0/kernel`.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import jax

from clipa_jax.errors import ConfigError, nearest

T = TypeVar("T")
Rules = Sequence[tuple[str, T]]


def flatten(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by name, in tree order."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def unflatten(leaves: Mapping[str, T]) -> dict[str, Any]:
    """Nested dicts from leaves by name; the inverse of `flatten` for nested dicts."""
    tree: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *parents, last = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree


def map_with_names(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Like `jax.tree.map`, with the leaf's name as the first argument of `function`."""

    def call(path, *leaves):
        return function(jax.tree_util.keystr(path, simple=True, separator="/"), *leaves)

    return jax.tree_util.tree_map_with_path(call, tree, *rest)


def rules(pairs: Any, read: Callable[[Any], T], what: str) -> Rules[T]:
    """Rules as a config has them, with their values read; `ConfigError` if they are none."""
    try:
        return [(re.compile(pattern).pattern, read(value)) for pattern, value in pairs]
    except (TypeError, ValueError, re.error) as error:
        raise ConfigError(
            f"{what}={pairs!r}: expected pairs of a regular expression and a value; {error}"
        ) from None


def first(rules: Rules[T], name: str, default: T) -> T:
    """The value of the first rule whose regex matches all of the name."""
    return next((value for pattern, value in rules if re.fullmatch(pattern, name)), default)


def match(rules: Rules[T], names: Iterable[str], default: T, *, what: str = "rule") -> dict[str, T]:
    """Gives each name the value of the first rule whose regex matches all of it, else the default.

    Raises `ConfigError` if a rule matches no name, or only names of earlier rules: it is probably
    misspelled. `what` is the name of the rules in the message.
    """
    names = list(names)
    values, used = {}, set()
    for name in names:
        values[name] = default
        for index, (pattern, value) in enumerate(rules):
            if re.fullmatch(pattern, name):
                values[name] = value
                used.add(index)
                break
    for index, (pattern, _) in enumerate(rules):
        if index not in used:
            raise ConfigError(
                f"{what} {pattern!r} matches no parameter that earlier rules leave; "
                f"{nearest(pattern, names)}"
            )
    return values


def count(tree: Any) -> int:
    """Number of scalars in all leaves."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def same_layout(got: Mapping[str, Any], expected: Mapping[str, Any], limit: int = 5) -> list[str]:
    """Descriptions of the first leaves in which two flat trees differ in name or shape."""
    lines = []
    for name in sorted({*got, *expected}):
        if name not in expected:
            lines.append(f"{name}: extra, {tuple(got[name].shape)}")
        elif name not in got:
            lines.append(f"{name}: missing, expected {tuple(expected[name].shape)}")
        elif tuple(got[name].shape) != tuple(expected[name].shape):
            actual, wanted = tuple(got[name].shape), tuple(expected[name].shape)
            lines.append(f"{name}: shape {actual}, expected {wanted}")
    return lines if len(lines) <= limit else [*lines[:limit], f"and {len(lines) - limit} more"]

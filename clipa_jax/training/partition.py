"""Trainable and frozen parameters, with scanned and unrolled layers alike.

Only the trainable parameters have gradients and an optimizer state. A stack of layers of which
some are frozen is cut into runs of trainable layers, such as `encoderblock@3`.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from clipa_jax import trees
from clipa_jax.errors import ConfigError
from clipa_jax.models import layout

TOWERS = {"image": "img/.*", "text": "txt/.*"}


@dataclass(frozen=True)
class Partition:
    """The split of a parameter tree."""

    frozen: frozenset[str] = frozenset()  # names, layers unrolled

    def trainable(self, params: Any) -> Any:
        """The trainable part of the parameters, of their shapes or of like trees; traceable."""
        if not self.frozen:
            return params
        return trees.unflatten(
            {
                part: leaf if (start, stop) == (0, None) else _cut(leaf, start, stop)
                for name, leaf in trees.flatten(params).items()
                for part, start, stop in self._parts(name, leaf)
            }
        )

    def merge(self, trainable: Any, params: Any) -> Any:
        """`params` with the trainable part replaced; traceable."""
        if not self.frozen:
            return trainable
        new = trees.flatten(trainable)

        def replaced(name: str, leaf: Any) -> Any:
            for part, start, stop in self._parts(name, leaf):
                if stop is None:
                    return new[part]
                leaf = jnp.concatenate([leaf[:start], new[part], leaf[stop:]])
            return leaf

        return trees.map_with_names(replaced, params)

    def _parts(self, name: str, leaf: Any) -> Iterator[tuple[str, int, int | None]]:
        """(name, first layer, end) of each trainable part; (name, 0, None) for a whole leaf."""
        frozen = [layer in self.frozen for layer in layout.unrolled_names(name, leaf)]
        if not any(frozen):
            yield name, 0, None
            return
        for is_frozen, run in itertools.groupby(range(len(frozen)), frozen.__getitem__):
            start, *rest = run
            if not is_frozen:
                yield layout.stack_name(name, start), start, start + 1 + len(rest)


ALL_TRAINABLE = Partition()


def build(freeze: Sequence[str], factors: Mapping[str, float]) -> Partition:
    """The partition of a config.

    `freeze` are regular expressions for names of parameters with layers unrolled; `image` and
    `text` stand for all parameters of a tower. Parameters whose factor of the learning rate is 0
    are frozen too. Raises `ConfigError` if an expression matches no parameter, or nothing remains
    to be trained.
    """
    pairs = [(TOWERS.get(pattern, pattern), True) for pattern in freeze]
    rules = trees.rules(pairs, bool, "optim.freeze")
    matched = trees.match(rules, factors, False, what="optim.freeze")
    frozen = frozenset(name for name, factor in factors.items() if matched[name] or not factor)
    if len(frozen) == len(factors):
        raise ConfigError(f"optim.freeze={tuple(freeze)} leaves no parameter to train")
    return Partition(frozen)


def _cut(leaf: Any, start: int, stop: int | None) -> Any:
    if not isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf[start:stop]
    sharding = leaf.sharding
    if isinstance(sharding, NamedSharding):
        sharding = NamedSharding(sharding.mesh, P(None, *sharding.spec[1:]))
    length = len(range(leaf.shape[0])[start:stop])
    return jax.ShapeDtypeStruct((length, *leaf.shape[1:]), leaf.dtype, sharding=sharding)

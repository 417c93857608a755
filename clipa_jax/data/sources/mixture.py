"""Several sources as one, each with a weight."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from clipa_jax.data.sources import base
from clipa_jax.errors import DataError

BETWEEN = " + "
_WEIGHTED = re.compile(r"\s*(?:([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*\*)?\s*(\S.*?)\s*")
Spec = str | Mapping[str, float] | Sequence[Any]


class Mixture(base.Source):
    """Sources from which samples are drawn by weights of any sum.

    An epoch of the mixture has as many samples as all components together; a component whose weight
    exceeds its share of the samples repeats more often.
    """

    def __init__(self, components: Sequence[base.Source], weights: Sequence[float], split: str):
        self.components, self.weights = tuple(components), tuple(weights)
        parts = zip(self.components, self.weights, strict=True)
        self.spec = BETWEEN.join(f"{weight:g}*{source.spec}" for source, weight in parts)
        self.split = split
        self.shards = tuple(shard for source in components for shard in source.shards)
        self.width = 1 + max(source.width for source in components)
        self.caption = components[0].caption
        self.has_captions = all(source.has_captions for source in components)
        common = set.intersection(*({*source.features} for source in components))
        self.features = tuple(sorted(common))

    def tagged(self, number: int, record: tf.Tensor) -> tf.Tensor:
        """A record (F,) of component `number` as one of the mixture: its number comes first."""
        filler = [""] * (self.width - 1 - self.components[number].width)
        return tf.concat([[str(number)], record, tf.constant(filler, tf.string)], 0)

    def read(self, shard: tf.Tensor, start: tf.Tensor, length: tf.Tensor) -> tf.data.Dataset:
        raise DataError(f"{self.spec}: a mixture has no order of files; name one source")

    def parse(self, record: tf.Tensor, features: Sequence[str] = ()) -> dict[str, Any]:
        number = tf.strings.to_number(record[0], tf.int32)
        branches = [
            lambda source=source: source.parse(record[1 : 1 + source.width], features)
            for source in self.components
        ]
        return tf.switch_case(number, branches)

    def describe(self, shard: int, index: int) -> str:
        for source in self.components:
            if shard < len(source.shards):
                return source.describe(shard, index)
            shard -= len(source.shards)
        raise IndexError(shard)


def parts(spec: Spec) -> list[tuple[str, float | None]] | None:
    """The sources and weights of a mixture; None if `spec` is a single source.

    A mixture is "0.7*tfds:a + 0.3*webdataset:b", a mapping of sources to weights, pairs (source,
    weight), or sources. Without weights, sources are mixed in proportion to their sizes.
    """
    pairs: list[tuple[Any, Any]]
    if isinstance(spec, str):
        if BETWEEN not in spec and not re.match(r"\s*[0-9.]+\s*\*", spec):
            return None
        matches = [_WEIGHTED.fullmatch(part) for part in spec.split(BETWEEN)]
        pairs = [(match[2], match[1]) if match else (spec, None) for match in matches]
    elif isinstance(spec, Mapping):
        pairs = list(spec.items())
    else:
        pairs = [(part, None) if isinstance(part, str) else tuple(part) for part in spec]
    return [(_source(source, spec), _weight(weight, spec)) for source, weight in pairs]


def sizes_or(weights: Sequence[float | None], sources: Sequence[base.Source]) -> list[float]:
    """The weights; if none is given, the sizes of the sources; weights for some are an error."""
    given = [weight for weight in weights if weight is not None]
    if given and len(given) < len(sources):
        raise DataError(
            f"source {BETWEEN.join(s.spec for s in sources)!r}: {len(given)} of {len(sources)} "
            f"have a weight; give all of them one, or none to mix in proportion to their sizes"
        )
    return given or [float(source.num_examples) for source in sources]


def _source(source: Any, spec: Spec) -> str:
    if not isinstance(source, str):
        raise DataError(f"source {spec!r}: expected a string, a mapping or pairs, got {source!r}")
    return source


def _weight(weight: Any, spec: Spec) -> float | None:
    if weight is None:
        return None
    try:
        number = float(weight)
    except (TypeError, ValueError):
        number = 0.0
    if not 0 < number < float("inf"):
        raise DataError(f"source {spec!r}: weight {weight!r} is not a positive number")
    return number

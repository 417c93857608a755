"""Where samples come from: `tfds:NAME`, `tfds:FOLDER`, `tfrecord:GLOB`."""

from collections.abc import Callable

from clipa_jax.data.sources.base import Shard, Source, empty
from clipa_jax.data.sources.tfds import TfdsSource
from clipa_jax.data.sources.tfrecord import TfrecordSource
from clipa_jax.errors import DataError, unknown

__all__ = ["KINDS", "Shard", "Source", "open"]

KINDS: dict[str, Callable[[str, str], Source]] = {
    "tfds": TfdsSource,
    "tfrecord": TfrecordSource,
}


def open(spec: str, split: str) -> Source:
    """The split of a dataset.

    Args:
      spec: the kind of source and where it is, e.g. "tfds:data/emoji/1.0.0" or
        "tfrecord:gs://bucket/laion/*.tfrecord".
      split: for kinds that have splits.

    Raises:
      DataError: an unknown kind; nothing there, or nothing in it, saying what was looked for.
    """
    kind, colon, rest = spec.partition(":")
    if not colon or not rest:
        raise DataError(f"source {spec!r}: expected KIND:WHERE with one of {', '.join(KINDS)}")
    if kind not in KINDS:
        raise DataError(f"source {spec!r}: " + unknown("kind", kind, KINDS))
    source = KINDS[kind](rest, split)
    if not source.num_examples:
        raise empty(spec, split)
    return source

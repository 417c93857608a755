"""What sources share that read in Python: records whose strings are known fields.

A record is (image, captions, id, then the features that were asked for), as strings, with
captions joined by a separator that captions do not contain. Python only moves bytes, in
chunks of samples; decoding and all else stays in TensorFlow.

X samples asked for, F strings of a record.
"""

import abc
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from clipa_jax.data.sources import base, files

SEPARATOR = b"\0"
_CHUNK = 64  # samples read by one call
_COMMON = 3  # image, captions, id


class FieldSource(base.Source):
    """A source whose samples are read by number, in Python.

    Args:
      wanted: features that records are to have.
      kinds: of the features: int, float or str.
    """

    def __init__(self, wanted: Sequence[str], kinds: dict[str, type]):
        self.features = tuple(kinds)
        self._kinds = kinds
        self._wanted = tuple(name for name in wanted if name in kinds)
        self.width = _COMMON + len(self._wanted)

    @abc.abstractmethod
    def rows(self, shard: int, indices: np.ndarray) -> Iterable[list[bytes]]:
        """The records of samples of a shard, int64 (X,); an empty list for an unreadable one.

        Raises:
          OSError: none of them can be read.
        """

    def fetch(self, shard_X: tf.Tensor, index_X: tf.Tensor) -> tf.Tensor:
        return strings(self._fetch, [shard_X, index_X], self.width)

    def read(self, shard: tf.Tensor, start: tf.Tensor, length: tf.Tensor) -> tf.data.Dataset:
        return in_chunks(self.fetch, shard, start, length)

    def parse(self, record: tf.Tensor, features: Sequence[str] = ()) -> dict[str, Any]:
        values = dict(
            zip(self._wanted, tf.unstack(record[_COMMON:], len(self._wanted)), strict=True)
        )
        return {
            "image": record[0],
            "captions": tf.strings.split(record[1], SEPARATOR),
            "id": record[2],
            **{
                name: _typed(values[name], self._kinds[name]) for name in features if name in values
            },
        }

    def parse_all(self, record_nF: tf.Tensor, *, captions: bool) -> dict[str, Any]:
        found = {"image": record_nF[:, 0]}
        return found | (
            {"captions": tf.strings.split(record_nF[:, 1], SEPARATOR)} if captions else {}
        )

    def _fetch(self, shard_X: np.ndarray, index_X: np.ndarray) -> np.ndarray:
        record_XF = np.full((len(shard_X), self.width), b"", object)
        for shard in dict.fromkeys(shard_X.tolist()):
            mine = np.flatnonzero(shard_X == shard)
            try:
                found = self.rows(shard, index_X[mine])
                for place, record in zip(mine, found, strict=True):
                    if record:
                        record_XF[place] = record
            except files.ERRORS as error:
                logging.warning("%s: %s", self.shards[shard].path, files.message(error))
        return record_XF


def in_chunks(
    fetch: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    shard: tf.Tensor,
    start: tf.Tensor,
    length: tf.Tensor,
) -> tf.data.Dataset:
    """Records (F,) in a row by a function that fetches any, some dozens at a time."""

    def chunk(first: tf.Tensor) -> tf.Tensor:
        index_X = tf.range(first, tf.minimum(first + _CHUNK, start + length))
        return fetch(tf.fill([tf.size(index_X)], shard), index_X)

    return tf.data.Dataset.range(start, start + length, _CHUNK).map(chunk).unbatch()


def strings(function: Callable[..., np.ndarray], args: list[tf.Tensor], width: int) -> tf.Tensor:
    """Calls a function of whole numbers that gives strings (X, width), inside a graph."""
    found = tf.numpy_function(function, args, tf.string, stateful=False)
    return tf.ensure_shape(found, [None, width])


def captions(text: Any) -> bytes:
    """One caption or several, str or bytes, in one string for a record."""
    texts = text if isinstance(text, list | tuple | np.ndarray) else [text]
    return SEPARATOR.join(
        as_bytes(one).replace(SEPARATOR, b" ") for one in texts if one is not None
    )


def captions_of_json(text: bytes) -> bytes:
    """The captions that a JSON object has under one of the usual names; empty if it has none."""
    try:
        found = json.loads(text)
    except ValueError:
        return b""
    if not isinstance(found, dict):
        return b""
    name = base.find_optional(base.CAPTION_NAMES, found)
    return captions(found[name]) if name else b""


def as_bytes(value: Any) -> bytes:
    """A value as a string of a record."""
    if isinstance(value, bytes):
        return value
    return b"" if value is None else str(value).encode("utf8", "surrogateescape")


def kind_of(values: Iterable[Any]) -> type:
    """int, float or str: what all of these values, of any type or as text, can be read as."""
    values = list(values)
    for kind in (int, float):
        try:
            for value in values:
                kind(value)
            return kind
        except (TypeError, ValueError):
            continue
    return str


def _typed(value: tf.Tensor, kind: type) -> tf.Tensor:
    """A string () as what it is; -1 or NaN where it is no such number."""
    if kind is str:
        return value
    pattern = r"\s*[+-]?\d+\s*" if kind is int else r"\s*[+-]?[\d.]+([eE][+-]?\d+)?\s*"
    other = "-1" if kind is int else "nan"
    number = tf.where(tf.strings.regex_full_match(value, pattern), tf.strings.strip(value), other)
    return tf.strings.to_number(number, tf.int64 if kind is int else tf.float32)

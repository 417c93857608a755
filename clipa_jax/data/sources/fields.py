"""Sources that read records in Python: strings in known places.

A record is (image, captions, id, then the wanted features), with the captions in one string.
Python only moves bytes, for some dozens of samples at a time; TensorFlow decodes them.

X samples, F strings of a record.
"""

import abc
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from clipa_jax.data.sources import base, captions
from clipa_jax.runtime import storage

_CHUNK = 64  # samples read by one call
_COMMON = 3  # image, captions, id
_NUMBERS = {int: r"\s*[+-]?\d{1,18}\s*", float: r"\s*[+-]?[\d.]+([eE][+-]?\d+)?\s*"}
_LOGGED = 20  # bad records whose errors are logged


class FieldSource(base.Source):
    """A source whose records are made in Python, with those of its features (int, float or str by
    name) that are wanted."""

    def __init__(self, wanted: Sequence[str], kinds: dict[str, type]):
        self.features = tuple(kinds)
        self._kinds = kinds
        self._wanted = tuple(name for name in wanted if name in kinds)
        self.width = _COMMON + len(self._wanted)

    @abc.abstractmethod
    def record(self, item: Any) -> list[bytes]:
        """The record of a sample, from whatever the source has read of it.

        An empty list means that it cannot be read; so does any error.
        """

    def records(self, shard: int, indices: np.ndarray, items: Iterable[Any]) -> np.ndarray:
        """Records of samples of a shard, object (X, F); one that fails is empty strings."""
        record_XF = np.full((len(indices), self.width), b"", object)
        for row, (index, item) in enumerate(zip(indices.tolist(), items, strict=True)):
            try:
                record = self.record(item)
            except Exception as error:  # noqa: BLE001 (any content may come; it costs one sample)
                where, kind = self.describe(shard, index), type(error).__name__
                logging.log_first_n(logging.WARNING, "%r: %s: %s", _LOGGED, where, kind, error)
                continue
            if record:
                record_XF[row] = record
        return record_XF

    def parse(self, record: tf.Tensor, features: Sequence[str] = ()) -> dict[str, Any]:
        values = dict(
            zip(self._wanted, tf.unstack(record[_COMMON:], len(self._wanted)), strict=True)
        )
        typed = {n: _typed(values[n], self._kinds[n]) for n in features if n in values}
        texts = _captions(record[None, 1], self.caption)
        texts = [part[0] for part in texts] if isinstance(texts, list) else texts[0]
        return {"image": record[0], "captions": texts, "id": record[2], **typed}

    def parse_all(self, record_nF: tf.Tensor, *, captions: bool) -> dict[str, Any]:
        images = {"image": record_nF[:, 0]}
        return images | ({"captions": _captions(record_nF[:, 1], self.caption)} if captions else {})


class IndexedSource(FieldSource):
    """A source that reads any samples of a shard by their indices."""

    @abc.abstractmethod
    def items(self, shard: int, indices: np.ndarray) -> Iterable[Any]:
        """What `record` takes, for samples (X,) of a shard; `OSError` if none can be read."""

    def fetch(self, shard_X: tf.Tensor, index_X: tf.Tensor) -> tf.Tensor:
        return strings(self._fetch, [shard_X, index_X], self.width)

    def read(self, shard: tf.Tensor, start: tf.Tensor, length: tf.Tensor) -> tf.data.Dataset:
        return in_chunks(self.fetch, shard, start, length)

    def _fetch(self, shard_X: np.ndarray, index_X: np.ndarray) -> np.ndarray:
        record_XF = np.full((len(shard_X), self.width), b"", object)
        for shard in dict.fromkeys(shard_X.tolist()):
            rows = np.flatnonzero(shard_X == shard)
            try:
                items = self.items(shard, index_X[rows])
                record_XF[rows] = self.records(shard, index_X[rows], items)
            except OSError as error:
                logging.warning("%s: %s", self.shards[shard].path, error)
        return record_XF


class ListedSource(IndexedSource):
    """A source of one shard: pictures in files, by their names in a folder.

    `where` is the folder or table that lists them.
    """

    random_access = True

    def __init__(
        self,
        where: str,
        folder: str,
        names: Sequence[str],
        wanted: Sequence[str],
        kinds: dict[str, type],
    ):
        if not names:
            raise base.empty_error(self.spec, self.split)
        self._folder, self._names = folder, names
        self.shards = (base.Shard.of_names(where, names),)
        super().__init__(wanted, kinds)

    def path(self, index: int) -> str:
        """The file of a picture."""
        return storage.join(self._folder, self._names[index])

    @abc.abstractmethod
    def texts(self, index: int) -> bytes:
        """The captions of a picture, as `Choice.record` gives them."""

    def values(self, index: int) -> Mapping[str, Any]:
        """The features of a picture."""
        del index
        return {}

    def record(self, item: int) -> list[bytes]:
        values = self.values(item)
        return [
            storage.read_or_nothing(self.path(item)),
            self.texts(item),
            captions.encoded(self._names[item]),
            *(captions.encoded(values.get(name)) for name in self._wanted),
        ]

    def describe(self, shard: int, index: int) -> str:
        del shard
        return f"{self.path(index)} (sample {index})"

    def items(self, shard: int, indices: np.ndarray) -> list[int]:
        del shard
        return indices.tolist()


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
    record_XF = tf.numpy_function(function, args, tf.string, stateful=False)
    return tf.ensure_shape(record_XF, [None, width])


def kind_of(values: Iterable[Any]) -> type:
    """int, float or str: as what all of these values, of any type, can be read.

    Missing values do not count.
    """
    texts = [str(value) for value in values if value not in (None, "")]
    for kind, pattern in _NUMBERS.items() if texts else ():
        if all(re.fullmatch(pattern, text) for text in texts):
            return kind
    return str


def _captions(text_n: tf.Tensor, caption: captions.Choice) -> Any:
    """Ragged captions (n, None), or a list of them, one for each field of which one is drawn."""
    if not caption.weights:
        return tf.strings.split(text_n, captions.SEPARATOR)
    parts = tf.strings.split(text_n, captions.FIELDS)
    part_nF = parts.to_tensor("", shape=[None, len(caption.names)])
    return [tf.strings.split(part_n, captions.SEPARATOR) for part_n in tf.unstack(part_nF, axis=1)]


def _typed(value: tf.Tensor, kind: type) -> tf.Tensor:
    """A string () as its kind; -1 or NaN where it is no such number."""
    if kind is str:
        return value
    pattern = _NUMBERS[kind]
    other = "-1" if kind is int else "nan"
    number = tf.where(tf.strings.regex_full_match(value, pattern), tf.strings.strip(value), other)
    return tf.strings.to_number(number, tf.int64 if kind is int else tf.float32)

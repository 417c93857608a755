"""A source whose encoded samples are kept in memory."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from clipa_jax.data.sources import base


class MemorySource(base.Source):
    """Another source, read once when the first sample is asked for, by `load`: a function from the
    source to all of its records, string (N, F), shard after shard."""

    random_access = True

    def __init__(self, source: base.Source, load: Callable[[base.Source], tf.Tensor]):
        self._source, self._load = source, load
        self.spec, self.split, self.shards = source.spec, source.split, source.shards
        self.features, self.has_captions = source.features, source.has_captions
        self.width, self.caption = source.width, source.caption
        lengths = np.array([shard.length for shard in source.shards], np.int64)
        self._begins = tf.constant(np.cumsum(lengths) - lengths)
        self._records: tf.Tensor | None = None

    def read(self, shard: tf.Tensor, start: tf.Tensor, length: tf.Tensor) -> tf.data.Dataset:
        return self._source.read(shard, start, length)

    def parse(self, record: tf.Tensor, features: Sequence[str] = ()) -> dict[str, Any]:
        return self._source.parse(record, features)

    def parse_all(self, record_nF: tf.Tensor, *, captions: bool) -> dict[str, Any]:
        return self._source.parse_all(record_nF, captions=captions)

    @property
    def can_parse_all(self) -> bool:
        return self._source.can_parse_all

    def fetch(self, shard_X: tf.Tensor, index_X: tf.Tensor) -> tf.Tensor:
        if self._records is None:
            with tf.init_scope():  # not in the graph that asks first
                self._records = self._load(self._source)
        return tf.gather(self._records, tf.gather(self._begins, shard_X) + index_X)

    def describe(self, shard: int, index: int) -> str:
        return self._source.describe(shard, index)

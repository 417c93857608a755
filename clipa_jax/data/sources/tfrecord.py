"""TFRecord files of `tf.train.Example`, as img2dataset writes them; no metadata needed."""

import struct
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from absl import logging

from clipa_jax.data.sources import base, index
from clipa_jax.errors import DataError

_HEADER = 12  # bytes before a record: its length and a checksum; four more follow it
_FOOTER = 4


class TfrecordSource(base.Source):
    """TFRecord files with an image (jpg, png, webp, image) and captions (txt, caption).

    Args:
      where: one or more globs, separated by commas, e.g. "gs://bucket/laion/*.tfrecord".
      split: not used; the files are the split.

    Raises:
      DataError: no files match, a file that cannot be read, or records without images.
    """

    def __init__(self, where: str, split: str):
        self.spec, self.split = f"tfrecord:{where}", split
        paths = _expand(where)
        lengths = index.lengths(paths, count_records)
        self.shards = tuple(base.Shard(p, n) for p, n in zip(paths, lengths, strict=True))
        first = next((shard.path for shard in self.shards if shard.length), None)
        if first is None:
            raise base.empty(self.spec, split)
        kinds = self._kinds = _kinds(first)
        self._image = base.find("image", base.IMAGE_NAMES, kinds, f"{self.spec} ({first})")
        self._captions = base.find_optional(base.CAPTION_NAMES, kinds)
        self._id = base.find_optional(base.ID_NAMES, kinds)
        self.has_captions = self._captions is not None
        self.features = tuple(n for n in kinds if n not in (self._image, self._captions))

    def read(self, path: tf.Tensor, start: tf.Tensor, length: tf.Tensor) -> tf.data.Dataset:
        return tf.data.TFRecordDataset(path).skip(start).take(length)

    def parse(self, record: tf.Tensor, features: Sequence[str] = ()) -> dict[str, Any]:
        wanted: dict[str, Any] = {self._image: tf.io.FixedLenFeature([], tf.string, "")}
        if self._captions:
            wanted[self._captions] = tf.io.RaggedFeature(tf.string)
        for name in (self._id, *features):
            if name in self._kinds and name not in wanted:
                wanted[name] = tf.io.FixedLenFeature([], *self._kinds[name])
        values = tf.io.parse_single_example(record, wanted)
        return {
            "image": values[self._image],
            "captions": values[self._captions] if self._captions else tf.zeros([0], tf.string),
            "id": _text(values[self._id]) if self._id else tf.constant(""),
            **{name: values[name] for name in features if name in values},
        }


def count_records(path: str) -> int:
    """The number of whole records of a TFRecord file, by their headers alone."""
    size, at, count = tf.io.gfile.stat(path).length, 0, 0
    with tf.io.gfile.GFile(path, "rb") as file:
        while at + _HEADER <= size:
            file.seek(at)
            at += _HEADER + struct.unpack("<Q", file.read(8))[0] + _FOOTER
            count += at <= size
    if at != size:
        logging.warning("%s is truncated or damaged behind record %d", path, count)
    return count


def _expand(where: str) -> list[str]:
    paths: list[str] = []
    for pattern in where.split(","):
        found = sorted(tf.io.gfile.glob(pattern))
        if not found:
            raise DataError(f"tfrecord:{where}: no files match {pattern}")
        paths += found
    return paths


def _kinds(path: str) -> dict[str, tuple[tf.DType, Any]]:
    """The features of a file's first record: their types and what stands for a missing one."""
    for record in tf.data.TFRecordDataset(path).take(1):
        example = tf.train.Example.FromString(record.numpy())
        options = {
            "bytes_list": (tf.string, ""),
            "int64_list": (tf.int64, -1),
            "float_list": (tf.float32, float("nan")),
        }
        return {
            name: options[feature.WhichOneof("kind")]
            for name, feature in example.features.feature.items()
            if feature.WhichOneof("kind")
        }
    return {}


def _text(value: tf.Tensor) -> tf.Tensor:
    return value if value.dtype == tf.string else tf.strings.as_string(value)

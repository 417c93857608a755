"""TFDS datasets: a folder that TFDS wrote, or the name of one that it has prepared."""

import functools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging
from array_record.python.array_record_module import ArrayRecordReader

from clipa_jax.config import bundled
from clipa_jax.data.sources import base, captions, fields, tfrecord
from clipa_jax.errors import DataError, MissingData, nearest
from clipa_jax.runtime import storage

INFO = "dataset_info.json"
_OPEN_FILES = 128  # of ArrayRecord files; a reader keeps its file open
_FORMATS = (tfds.core.FileFormat.TFRECORD, tfds.core.FileFormat.ARRAY_RECORD)


class TfdsSource(base.Source):
    """A split of a TFDS dataset, with slices such as "train[:10%]" as TFDS writes them, in
    TFRecord or ArrayRecord files. Records are whole examples.

    `where` is the folder with `dataset_info.json`, or a name, e.g. "coco_captions/2014:1.1.0".
    """

    def __init__(self, where: str, split: str, wanted: Sequence[str], caption: captions.Choice):
        del wanted
        self.caption = caption
        self.spec, self.split = f"tfds:{where}", split
        try:
            info = _builder(where).info
        except tf.errors.OpError as error:
            raise DataError(f"{self.spec}: TensorFlow cannot read it: {error.message}") from None
        try:
            files = info.splits[split].file_instructions
        except (KeyError, ValueError) as error:
            names = list(info.splits)
            hint = nearest(split, names) if split not in names else str(error)
            raise DataError(f"{self.spec}: no split {split!r}; {hint}") from None
        if info.file_format not in _FORMATS:
            raise DataError(
                f"{self.spec}: files are {info.file_format}; expected TFRecord or ArrayRecord"
            )
        self.random_access = info.file_format is tfds.core.FileFormat.ARRAY_RECORD
        self.shards = tuple(
            base.Shard(str(file.filename), int(file.take), int(file.skip)) for file in files
        )
        place = storage.scheme(self.shards[0].path) if self.shards else ""
        if self.random_access and place:
            raise DataError(
                f"{self.spec}: ArrayRecord reads no {place}:// files; copy them to a disk, or "
                "prepare the data as TFRecord files"
            )
        self._check_files()
        self._info = info
        names = list(info.features)
        self._image = base.find("image", base.IMAGE_NAMES, names, self.spec)
        self._captions = [name for name in caption.names if name in names]
        if not caption.weights:
            del self._captions[1:]
        self._id = base.find_optional(base.ID_NAMES, names)
        self.has_captions = caption.possible(names)
        self.features = tuple(n for n in names if n not in (self._image, *self._captions))

    def _check_files(self) -> None:
        """Raises `MissingData` for a file that is not there, by listings: one check a file would
        take minutes in a bucket."""
        paths = [shard.path for shard in self.shards]
        folders = {os.path.dirname(path) for path in paths}
        present = {
            f"{folder}/{name}"
            for folder in filter(tf.io.gfile.exists, folders)
            for name in tf.io.gfile.listdir(folder)
        }
        missing = next((path for path in paths if path not in present), None)
        if missing:
            sentence = f"{self.spec}, split {self.split}: {missing} is missing"
            raise MissingData(sentence, dataset=self.spec, looked=missing)

    def read(self, shard: tf.Tensor, start: tf.Tensor, length: tf.Tensor) -> tf.data.Dataset:
        if self.random_access:
            return fields.in_chunks(self.fetch, shard, start, length)
        path = tf.constant([shard.path for shard in self.shards])[shard]
        return tfrecord.read(path, start + self._starts[shard], length, tfrecord.buffer(self))

    def fetch(self, shard_X: tf.Tensor, index_X: tf.Tensor) -> tf.Tensor:
        index_X += tf.gather(self._starts, shard_X)
        return fields.strings(self._fetch, [shard_X, index_X], self.width)

    @property
    def can_fetch(self) -> bool:
        return self.random_access

    @property
    def _starts(self) -> tf.Tensor:
        return tf.constant([shard.start for shard in self.shards], tf.int64)

    def _fetch(self, shard_X: np.ndarray, index_X: np.ndarray) -> np.ndarray:
        record_X1 = np.full((len(shard_X), 1), b"", object)
        for shard in dict.fromkeys(shard_X.tolist()):
            mine = np.flatnonzero(shard_X == shard)
            record_X1[mine, 0] = _array_records(self.shards[shard].path, index_X[mine].tolist())
        return record_X1

    def parse(self, record: tf.Tensor, features: Sequence[str] = ()) -> dict[str, Any]:
        wanted = [
            n
            for n in {self._image, *self._captions, self._id, *features}
            if n in self._info.features
        ]
        features_read = tfds.features.FeaturesDict({n: self._info.features[n] for n in wanted})
        values = features_read.deserialize_example(
            record[0], decoders={self._image: tfds.decode.SkipDecoding()}
        )
        texts = [self._flat(values[name]) for name in self._captions]
        return {
            "image": values[self._image],
            "captions": tfrecord.choose(texts, self.caption) if texts else tf.zeros([0], tf.string),
            "id": tfrecord.text(values[self._id]) if self._id else tf.constant(""),
            **{name: values[name] for name in features if name in values},
        }

    def _flat(self, texts: Any) -> tf.Tensor:
        """The captions (n,) of a feature."""
        while isinstance(texts, dict):  # COCO keeps a caption's text among other fields
            texts = texts[base.find("text", captions.NAMES, texts, self.spec)]
        return tf.reshape(texts, [-1])

    def parse_all(self, record_nF: tf.Tensor, *, captions: bool) -> dict[str, Any]:
        texts = self._captions if captions else []
        return tfrecord.parse_all(record_nF[:, 0], [self._image], texts, self.caption)

    @property
    def can_parse_all(self) -> bool:
        """Where examples hold pictures and captions as they are, in lists of bytes."""
        kinds = self._info.features
        texts = [kinds[name] for name in self._captions]
        texts = [t.feature if isinstance(t, tfds.features.Sequence) else t for t in texts]
        return isinstance(kinds[self._image], tfds.features.Image) and all(
            isinstance(text, tfds.features.Text) for text in texts
        )

    def class_names(self, label: str) -> list[str] | None:
        feature = dict(self._info.features.items()).get(label)
        if isinstance(feature, tfds.features.Sequence):  # of several labels a picture
            feature = feature.feature
        return list(feature.names) if isinstance(feature, tfds.features.ClassLabel) else None


@functools.lru_cache(maxsize=_OPEN_FILES)
def _reader(path: str) -> ArrayRecordReader:
    return ArrayRecordReader(path, options="readahead_buffer_size:0")


def _array_records(path: str, indices: list[int]) -> list[bytes]:
    """Records of an ArrayRecord file; empty where one cannot be read."""
    try:
        return _reader(path).read(indices)
    except (OSError, ValueError, IndexError, RuntimeError) as error:
        if len(indices) == 1:
            logging.warning("%s, record %d: %s", path, indices[0], error)
            return [b""]
    return [record for index in indices for record in _array_records(path, [index])]


def _builder(where: str) -> tfds.core.DatasetBuilder:
    where = bundled.find(where)
    if tf.io.gfile.exists(tf.io.gfile.join(where, INFO)):
        return tfds.builder_from_directory(where)
    if tf.io.gfile.exists(where) or where.startswith((".", "/", "~", "data/")) or "://" in where:
        raise MissingData(
            f"tfds:{where}: no dataset there; looked for {where}/{INFO}",
            dataset=f"tfds:{where}",
            looked=f"{where}/{INFO}",
        )
    try:
        builder = tfds.builder(where)
    except (tfds.core.DatasetNotFoundError, ValueError, KeyError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise DataError(
            f"tfds:{where}: neither a folder with {INFO} nor a dataset that TFDS knows ({first})"
        ) from None
    if not tf.io.gfile.exists(tf.io.gfile.join(str(builder.data_dir), INFO)):
        looked, command = f"{builder.data_dir}/{INFO}", f"tfds build {where}"
        raise MissingData(
            f"tfds:{where}: not prepared; looked for {looked}; prepare it with: {command}",
            dataset=f"tfds:{where}",
            looked=looked,
            command=command,
        )
    return builder

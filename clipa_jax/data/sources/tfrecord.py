"""TFRecord files of `tf.train.Example`, as img2dataset writes them; no metadata needed."""

import functools
import os
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging
from google.protobuf.message import DecodeError

from clipa_jax.data.sources import base, captions, index
from clipa_jax.errors import DataError
from clipa_jax.runtime import storage

_HEADER = 12  # bytes before a record: its length and a checksum; four more follow it
_FOOTER = 4
_BUFFER, _REMOTE_BUFFER = 256 << 10, 8 << 20  # bytes read at once; a remote read is a request
_BATCH = 128  # records that go through the check for missing ones together
_LOOKED_AT = 16  # records of a file that tell which features there are
# The types of features by their fields, and values for missing ones.
_TYPES: dict[str, tuple[tf.DType, Any]] = {
    "bytes_list": (tf.string, ""),
    "int64_list": (tf.int64, -1),
    "float_list": (tf.float32, float("nan")),
}


class TfrecordSource(base.Source):
    """TFRecord files with an image (jpg, png, webp, image) and captions (txt, caption), local or in
    Google's cloud storage: TensorFlow reads no others. Records are whole examples."""

    def __init__(self, where: str, split: str, wanted: Sequence[str], caption: captions.Choice):
        del wanted
        self.caption = caption
        self.spec, self.split = f"tfrecord:{where}", split
        files = storage.expand(where, self.spec)
        schemes = tf.io.gfile.get_registered_schemes()
        foreign = {storage.scheme(file.path) for file in files} - {*schemes}
        if foreign:
            raise DataError(
                f"{self.spec}: TensorFlow reads no {foreign.pop()}:// files; copy them, or keep "
                f"the data as webdataset or parquet, which can be read from there"
            )
        self.shards, _ = index.shards(files, _scan)
        filled = self.filled_files()
        kinds = self._kinds = _kinds(base.spread(filled))
        texts = [name for name, (kind, _) in kinds.items() if kind == tf.string]
        base.find("image", base.IMAGE_NAMES, texts, f"{self.spec} ({filled[0]})")
        self._images = [name for name in base.IMAGE_NAMES if name in texts]
        self._captions = [name for name in caption.names if name in texts]
        self._id = base.find_optional(base.ID_NAMES, kinds)
        self.has_captions = caption.possible(texts)
        used = (self._images[0], *self._captions[:1])
        self.features = tuple(name for name in kinds if name not in used)

    def read(self, shard: tf.Tensor, start: tf.Tensor, length: tf.Tensor) -> tf.data.Dataset:
        path = tf.constant([shard.path for shard in self.shards])[shard]
        return read(path, start, length, buffer(self), self._offset(shard, start))

    def _offset(self, shard: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
        """The byte at which a record begins, from the index."""

        def find(shard: np.ndarray, start: np.ndarray) -> Any:
            path, first = self.shards[int(shard)].path, int(start)
            table = index.opened(path, _scan).table
            # A record of the length may be wrong; there is nothing behind the end.
            return table[first, 0] if first < len(table) else np.int64(storage.stamp(path)[0])

        return tf.numpy_function(find, [shard, start], tf.int64, stateful=False)

    def parse(self, record: tf.Tensor, features: Sequence[str] = ()) -> dict[str, Any]:
        scalars = [name for name in (self._id, *features) if name in self._kinds]
        wanted: dict[str, Any] = {n: tf.io.FixedLenFeature([], *self._kinds[n]) for n in scalars}
        wanted |= {name: tf.io.RaggedFeature(tf.string) for name in self._captions}
        wanted |= {name: tf.io.FixedLenFeature([], tf.string, "") for name in self._images}
        legal = tf.numpy_function(self._legal, [record[0]], tf.string, stateful=False)
        values = tf.io.parse_single_example(tf.ensure_shape(legal, []), wanted)
        texts = [values[name] for name in self._captions]
        return {
            "image": _first_image([values[name] for name in self._images]),
            "captions": choose(texts, self.caption) if texts else tf.zeros([0], tf.string),
            "id": text(values[self._id]) if self._id else tf.constant(""),
            **{name: values[name] for name in features if name in values},
        }

    def _legal(self, record: bytes | np.ndarray) -> bytes:
        """A record without features of another type than that of the source, or of several values
        where one is expected: they count as missing."""
        record = record if isinstance(record, bytes) else record.item()  # outside of a graph
        example = tf.train.Example.FromString(record)
        features = example.features.feature
        wrong = [
            name for name in self._kinds if name in features and not self._fits(name, features)
        ]
        for name in wrong:
            del features[name]
        return example.SerializeToString() if wrong else record

    def _fits(self, name: str, features: Mapping[str, tf.train.Feature]) -> bool:
        field = features[name].WhichOneof("kind")
        if field is None:
            return True
        expected, _ = self._kinds[name]
        several = len(getattr(features[name], field).value) > 1 and name not in self._captions
        return not several and _TYPES[field][0] == expected

    def parse_all(self, record_nF: tf.Tensor, *, captions: bool) -> dict[str, Any]:
        texts = self._captions if captions else ()
        return parse_all(record_nF[:, 0], self._images, texts, self.caption)


def parse_all(
    record_n: tf.Tensor, images: Sequence[str], texts: Sequence[str], caption: captions.Choice
) -> dict[str, Any]:
    """Examples (n,) -> image (n,) and, if `texts` are given, ragged captions (n, None).

    Of the features of pictures, `images`, the first that is filled counts; so of the captions.
    """
    wanted: dict[str, Any] = {name: tf.io.FixedLenFeature([], tf.string, "") for name in images}
    ragged = tf.io.RaggedFeature(tf.string, row_splits_dtype=tf.int64)
    wanted |= dict.fromkeys(texts, ragged)
    values = tf.io.parse_example(record_n, wanted)
    sample = {"image": _first_image([values[name] for name in images])}
    if texts:
        sample["captions"] = choose([values[name] for name in texts], caption)
    return sample


def _first_image(images: Sequence[tf.Tensor]) -> tf.Tensor:
    """Of strings () or (n,), the first that is not empty."""
    image = images[-1]
    for other in reversed(images[:-1]):
        image = tf.where(tf.strings.length(other) > 0, other, image)
    return image


def choose(texts: list[Any], caption: captions.Choice) -> Any:
    """The captions of the fields that come first; all of them if one of them is drawn."""
    return texts if caption.weights else _first_texts(texts)


def _first_texts(texts: Sequence[Any]) -> Any:
    """Of captions (m,), or ragged ones (n, m), the first that are not all blank."""
    if len(texts) == 1:
        return texts[0]
    rest = _first_texts(texts[1:])
    if not isinstance(texts[0], tf.RaggedTensor):
        filled = tf.reduce_any(tf.strings.length(tf.strings.strip(texts[0])) > 0)
        return tf.cond(filled, lambda: texts[0], lambda: rest)
    flat = tf.strings.length(tf.strings.strip(texts[0].flat_values)) > 0
    filled_n = tf.reduce_any(texts[0].with_flat_values(flat), 1)
    return tf.where(filled_n[:, None], texts[0], rest)


def buffer(source: base.Source) -> int:
    """Bytes of a TFRecord file of the source that are read at once."""
    return _REMOTE_BUFFER if storage.scheme(source.shards[0].path) else _BUFFER


def read(
    path: tf.Tensor,
    start: tf.Tensor,
    length: tf.Tensor,
    buffer: int = _BUFFER,
    at: tf.Tensor | None = None,
) -> tf.data.Dataset:
    """Records (1,), [start, start + length) of a TFRecord file, inside tf.data.

    TensorFlow stops reading a file at the first record with a wrong checksum. The rest is then read
    record by record, and those that cannot be read are empty strings. Record `start` begins at byte
    `at`; without it, TensorFlow skips from record to record up to there.
    """
    if at is None:
        records = tf.data.TFRecordDataset(path, buffer_size=buffer).skip(start).take(length)
    else:
        records = _from_byte(path, at, buffer).take(length)
    blank = tf.data.Dataset.from_tensors(tf.constant([""]))

    def record_at(offset: tf.Tensor) -> tf.data.Dataset:
        record = _from_byte(path, offset, 0).batch(1)
        return record.ignore_errors().concatenate(blank).take(1)

    def missing(done: tf.Tensor) -> tf.Tensor:
        end = tf.minimum(done + _BATCH, length)
        places = _places(path, start + done, start + end)
        missed = tf.data.Dataset.from_tensor_slices(places).flat_map(record_at).unbatch()
        return missed.batch(_BATCH).get_single_element()

    def completed(done: tf.Tensor, record_X: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        behind = (tf.size(record_X) == 0) & (done < length)
        record_X = tf.cond(behind, lambda: missing(done), lambda: record_X)
        return done + tf.size(record_X, tf.int64), record_X[:, None]

    batches = records.ignore_errors(log_warning=True).batch(_BATCH)
    none = tf.data.Dataset.from_tensors(tf.zeros([0], tf.string))
    ends = none.repeat(-(-length // _BATCH))  # as many batches as can be missing
    # Taken apart like this, records are moved; slices of a tensor would be copied.
    return batches.concatenate(ends).scan(tf.constant(0, tf.int64), completed).unbatch()


def _from_byte(path: tf.Tensor, at: tf.Tensor, buffer: int) -> tf.data.Dataset:
    """The records () of a file from the byte on at which one begins."""

    def records(at: tf.Tensor) -> tf.data.Dataset:
        variant = tf.raw_ops.TFRecordDatasetV2(
            filenames=path[None], compression_type="", buffer_size=buffer, byte_offsets=at[None]
        )
        return tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string))

    # Inside a function, since TensorFlow 2.21 forgets the offsets of a dataset that it rewrites.
    return tf.data.Dataset.from_tensors(at).flat_map(records)


def offsets(path: str) -> np.ndarray:
    """The offsets of the records of a TFRecord file, by their headers alone: int64 (records,).

    A record that is cut by the end of the file is among them, and so is one with a wrong length,
    after which no other can be found.
    """
    at, starts = 0, []
    with storage.scan(path) as file:
        size = file.seek(0, os.SEEK_END)
        while at < size:
            starts.append(at)
            file.seek(at)
            header = file.read(_HEADER)
            if len(header) < _HEADER:
                break
            at += _HEADER + struct.unpack("<Q", header[:8])[0] + _FOOTER
    if at != size:
        _refuse_compressed(path)
        logging.warning("%s is truncated or damaged in record %d", path, len(starts) - 1)
    return np.array(starts, np.int64)


def _refuse_compressed(path: str) -> None:
    """Raises `DataError` if a file is compressed as a whole, as TFRecord files may be."""
    try:
        for _ in tf.data.TFRecordDataset(path).take(1):
            return
    except tf.errors.DataLossError:
        index.refuse_compressed(path)


def _scan(path: str) -> index.Scan:
    starts = offsets(path)
    return index.Scan(len(starts), table=starts[:, None])


@functools.lru_cache(maxsize=16)
def _known_offsets(path: str) -> np.ndarray:
    return offsets(path)


def _places(path: tf.Tensor, begin: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """The offsets of records [begin, end) of a file, inside a graph; the file's size for those
    beyond its end."""

    def find(path: bytes, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        name = path.decode()
        known, size = _known_offsets(name)[begin:end], storage.stamp(name)[0]
        return np.pad(known, (0, int(end - begin) - len(known)), constant_values=size)

    offset_X = tf.numpy_function(find, [path, begin, end], tf.int64, stateful=False)
    return tf.ensure_shape(offset_X, [None])


def _kinds(paths: Sequence[str]) -> dict[str, tuple[tf.DType, Any]]:
    """The features of the first records of files: their types, and values for missing ones.

    Of several types text counts, so that a number in the place of a caption does not hide captions.
    """
    kinds: dict[str, tuple[tf.DType, Any]] = {}
    for path in paths:
        start, length = tf.constant(0, tf.int64), tf.constant(_LOOKED_AT, tf.int64)
        for record in read(tf.constant(path), start, length):
            try:
                example = tf.train.Example.FromString(record.numpy()[0])
            except DecodeError:  # unreadable, as it will be in training
                continue
            for name, feature in example.features.feature.items():
                kind = _TYPES.get(feature.WhichOneof("kind"))
                if not kind or not getattr(feature, feature.WhichOneof("kind")).value:
                    continue
                if name not in kinds or kind[0] == tf.string:
                    kinds[name] = kind
    return kinds


def text(value: tf.Tensor) -> tf.Tensor:
    """A value of any type as text."""
    return value if value.dtype == tf.string else tf.strings.as_string(value)

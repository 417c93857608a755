"""TFDS datasets: a folder that TFDS wrote, or the name of one that it has prepared."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds

from clipa_jax.data.sources import base
from clipa_jax.errors import DataError, nearest

INFO = "dataset_info.json"


class TfdsSource(base.Source):
    """A split of a TFDS dataset, with slices such as "train[:10%]" as TFDS writes them.

    Args:
      where: the folder with `dataset_info.json`, or a name, e.g. "coco_captions/2014:1.1.0".
      split: one of its splits.

    Raises:
      DataError: no such dataset or split; a file that is missing; no images in it.
    """

    def __init__(self, where: str, split: str):
        self.spec, self.split = f"tfds:{where}", split
        info = _builder(where).info
        try:
            files = info.splits[split].file_instructions
        except (KeyError, ValueError) as error:
            names = list(info.splits)
            hint = nearest(split, names) if split not in names else str(error)
            raise DataError(f"{self.spec}: no split {split!r}; {hint}") from None
        if info.file_format is not tfds.core.FileFormat.TFRECORD:
            raise DataError(f"{self.spec}: files are {info.file_format}; expected TFRecord")
        self.shards = tuple(
            base.Shard(str(file.filename), int(file.take), int(file.skip)) for file in files
        )
        for shard in self.shards:
            if not tf.io.gfile.exists(shard.path):
                raise DataError(f"{self.spec}, split {split}: {shard.path} is missing")
        self._info = info
        names = list(info.features)
        self._image = base.find("image", base.IMAGE_NAMES, names, self.spec)
        self._captions = base.find_optional(base.CAPTION_NAMES, names)
        self._id = base.find_optional(base.ID_NAMES, names)
        self.has_captions = self._captions is not None
        self.features = tuple(n for n in names if n not in (self._image, self._captions))

    def read(self, path: tf.Tensor, start: tf.Tensor, length: tf.Tensor) -> tf.data.Dataset:
        return tf.data.TFRecordDataset(path).skip(start).take(length)

    def parse(self, record: tf.Tensor, features: Sequence[str] = ()) -> dict[str, Any]:
        wanted = [
            n
            for n in {self._image, self._captions, self._id, *features}
            if n in self._info.features
        ]
        features_read = tfds.features.FeaturesDict({n: self._info.features[n] for n in wanted})
        values = features_read.deserialize_example(
            record, decoders={self._image: tfds.decode.SkipDecoding()}
        )
        captions = values[self._captions] if self._captions else tf.zeros([0], tf.string)
        while isinstance(captions, dict):  # COCO keeps a caption's text among other fields
            captions = captions[base.find("text", base.CAPTION_NAMES, captions, self.spec)]
        return {
            "image": values[self._image],
            "captions": tf.reshape(captions, [-1]),
            "id": _text(values[self._id]) if self._id else tf.constant(""),
            **{name: values[name] for name in features if name in values},
        }

    def class_names(self, label: str) -> list[str] | None:
        feature = dict(self._info.features.items()).get(label)
        return list(feature.names) if isinstance(feature, tfds.features.ClassLabel) else None


def _text(value: tf.Tensor) -> tf.Tensor:
    return value if value.dtype == tf.string else tf.strings.as_string(value)


def _builder(where: str) -> tfds.core.DatasetBuilder:
    if tf.io.gfile.exists(tf.io.gfile.join(where, INFO)):
        return tfds.builder_from_directory(where)
    if tf.io.gfile.exists(where) or where.startswith((".", "/", "~")) or "://" in where:
        raise DataError(f"tfds:{where}: no dataset there; looked for {where}/{INFO}")
    try:
        builder = tfds.builder(where)
    except (tfds.core.DatasetNotFoundError, ValueError, KeyError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise DataError(
            f"tfds:{where}: neither a folder with {INFO} nor a dataset that TFDS knows ({first})"
        ) from None
    if not tf.io.gfile.exists(tf.io.gfile.join(str(builder.data_dir), INFO)):
        raise DataError(
            f"tfds:{where}: not prepared; looked for {builder.data_dir}/{INFO}; "
            f"prepare it with: tfds build {where}"
        )
    return builder

"""Records of a prepared dataset: encoded picture, serialized example, TFDS features.

Pictures keep their bytes unless they are resized or are neither JPEG nor PNG; then they are
encoded as JPEG, which every reader decodes.
"""

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from clipa_jax.data.sources.base import Source
from clipa_jax.errors import DataError
from clipa_jax.prepare.samples import Encode
from clipa_jax.preprocess import registry

_PNG = b"\x89PNG"


def encoder(resize: int, quality: int) -> Encode:
    """A function that returns the bytes to store of a picture.

    Pictures whose short side exceeds `resize` pixels are resized to it with antialiasing, 0 for
    none. `quality` is that of the JPEG.
    """
    shrink = registry.build(f"resize_small({resize})") if resize else None

    def encode(encoded: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
        large = tf.reduce_min(tf.shape(image)[:2]) > resize if resize else tf.constant(False)
        readable = tf.io.is_jpeg(encoded) | (tf.strings.substr(encoded, 0, len(_PNG)) == _PNG)

        def anew() -> tf.Tensor:
            small = image
            if shrink is not None:
                small = tf.cond(large, lambda: shrink({"image": image})["image"], lambda: image)
            return tf.io.encode_jpeg(small, format="rgb", quality=quality)

        return tf.cond(large | ~readable, anew, lambda: encoded)

    return encode


def record(image: bytes, captions: tuple[bytes, ...], identity: bytes, more: dict[str, Any]):
    """The record of a sample, bytes; equal for equal content in any process."""
    example = tf.train.Example()
    feature = example.features.feature
    feature["image"].bytes_list.value.append(image)
    feature["captions"].bytes_list.value.extend(captions)
    feature["id"].bytes_list.value.append(identity)
    for name, value in more.items():
        if isinstance(value, bytes):
            feature[name].bytes_list.value.append(value)
        elif np.issubdtype(np.asarray(value).dtype, np.floating):
            feature[name].float_list.value.append(float(value))
        else:
            feature[name].int64_list.value.append(int(value))
    return example.SerializeToString(deterministic=True)


def features(source: Source, spec: dict[str, tf.TensorSpec]) -> dict[str, Any]:
    """The TFDS features of the records, with further scalar features of shape and type `spec`."""
    tfds_features: dict[str, Any] = {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "captions": tfds.features.Sequence(tfds.features.Text()),
        "id": tfds.features.Text(),
    }
    for name, value in spec.items():
        if value.shape.rank != 0:
            raise DataError(f"{source.spec}: feature {name!r} is not a scalar and cannot be kept")
        names = source.class_names(name)
        if names is not None:
            tfds_features[name] = tfds.features.ClassLabel(names=names)
        elif value.dtype == tf.string:
            tfds_features[name] = tfds.features.Text()
        elif value.dtype.is_floating:
            tfds_features[name] = tfds.features.Scalar(np.float32)
        else:
            tfds_features[name] = tfds.features.Scalar(np.int64)
    return tfds_features

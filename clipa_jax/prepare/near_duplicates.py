"""Pictures of evaluation sets, which training data must not hold: found by perceptual hash.

The hash (pHash) has the signs of the 64 lowest frequencies of a gray picture against their median,
so it survives resizing, recompression and small changes of color; the share of its bits that differ
measures the likeness of two pictures.
"""

import io
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from clipa_jax.data import reading, sources
from clipa_jax.evaluators import catalogue
from clipa_jax.preprocess import registry
from clipa_jax.runtime import progress, storage

FILE = "excluded.npz"
SIDE, FREQUENCIES = 32, 8  # of the gray picture, and of each axis of the hash


def picture_hash(image_HWC: tf.Tensor) -> tf.Tensor:
    """The hash of a picture, uint8 RGB: int64 ()."""
    gray = tf.image.rgb_to_grayscale(tf.cast(image_HWC, tf.float32))
    small = tf.image.resize(gray, [SIDE, SIDE], antialias=True)[..., 0]
    low = tf.reshape(_DCT @ small @ _DCT.T, [-1])
    above = tf.cast(low > tf.sort(low)[low.shape[0] // 2], tf.int32)
    bytes_8 = tf.reduce_sum(tf.reshape(above, [8, 8]) * 2 ** np.arange(8), axis=1)
    return tf.bitcast(tf.cast(bytes_8, tf.uint8), tf.int64)


def locate(name: str, root: str) -> tuple[str, str]:
    """(source, split) of an evaluation set: a name of the catalogue, or `SOURCE@SPLIT`.

    Raises `UserError` if it is unknown or not there.
    """
    if ":" not in name:
        return catalogue.locate(name, root)
    source, _, split = name.rpartition("@")
    return (source, split) if source else (name, "train")


def write(places: Sequence[tuple[str, str]], folder: str) -> None:
    """Writes the hashes of evaluation sets, as of `locate`, unless the folder has them."""
    path = storage.join(folder, FILE)
    if storage.exists(path):
        return
    hash_X = [_hashes(*place) for place in places]
    of_X = np.repeat(np.arange(len(places)), [len(part) for part in hash_X])
    content = io.BytesIO()
    np.savez(content, hash_X=np.concatenate(hash_X), of_X=of_X)
    storage.write(path, content.getvalue())


class Excluded:
    """The evaluation sets of which `write` has made the hashes."""

    def __init__(self, names: Sequence[str], folder: str, distance: int):
        content = np.load(io.BytesIO(storage.read(storage.join(folder, FILE))))
        self._hash_X, self._of_X = content["hash_X"], content["of_X"]
        self._names, self._distance = names, distance

    def like(self, number: int) -> str:
        """The first set with a picture whose hash differs in `distance` bits or fewer; or ""."""
        differ_X = np.bitwise_count(self._hash_X ^ np.int64(number).view(np.uint64))
        (near_X,) = np.nonzero(differ_X <= self._distance)
        return self._names[self._of_X[near_X[0]]] if len(near_X) else ""


def _hashes(spec: str, split: str) -> np.ndarray:
    """Of all pictures of a source that can be decoded, as they are and mirrored: uint64 (X,)."""
    source = sources.open(spec, split)
    decode = registry.build("decode")

    def both(record: tf.Tensor) -> tf.Tensor:
        image = decode({"image": source.parse(record)["image"]})["image"]
        return tf.stack([picture_hash(image), picture_hash(image[:, ::-1])])

    read = reading.everything(source).map(both, num_parallel_calls=tf.data.AUTOTUNE)
    with progress.Progress(f"excluded: {spec}", source.num_examples) as shown:
        hashes = []
        for number, pair in enumerate(read.ignore_errors().as_numpy_iterator(), 1):
            hashes.append(pair)
            shown.update(number)
    return np.array(hashes, np.int64).reshape(-1).view(np.uint64)


def _dct() -> np.ndarray:
    frequency_F, place_S = np.arange(FREQUENCIES), np.arange(SIDE)
    return np.cos(np.pi / SIDE * frequency_F[:, None] * (place_S + 0.5)).astype(np.float32)


_DCT = _dct()

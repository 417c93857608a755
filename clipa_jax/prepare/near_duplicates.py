"""Pictures of evaluation sets in training data, found by perceptual hash."""

import io
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from clipa_jax.data import reading, sources
from clipa_jax.prepare import perceptual
from clipa_jax.preprocess import registry
from clipa_jax.runtime import progress, storage

FILE = "excluded.npz"


def picture_hash(image_HWC: tf.Tensor) -> tf.Tensor:
    """`perceptual.picture_hash` in a graph, as a signed number: int64 ()."""
    number = tf.numpy_function(
        lambda image_HWC: perceptual.picture_hash(image_HWC).view(np.int64), [image_HWC], tf.int64
    )
    return tf.ensure_shape(number, [])


def write(places: Sequence[tuple[str, str]], folder: str) -> None:
    """Writes the hashes of evaluation sets, (source, split), unless the folder has them."""
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

"""Captions of a source without its pictures, for vocabularies and word counts."""

import collections
import os
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from clipa_jax.data import reading, sources
from clipa_jax.errors import DataError
from clipa_jax.preprocess.vocab import basic_words
from clipa_jax.runtime import files, storage


def read(spec: str, split: str = "train", feature: str = "captions") -> list[list[str]]:
    """The captions of every sample, in order; unreadable samples are left out.

    `spec` is a text file with one caption a line, a TFDS folder, or what `sources.open` takes.
    """
    is_path = bool(storage.scheme(spec)) or os.path.exists(spec)
    if is_path and storage.is_folder(spec):
        spec, is_path = f"tfds:{spec}", False
    if is_path:
        lines = files.read_bytes(spec).decode("utf-8", "replace").splitlines()
        samples = [[line.strip()] for line in lines if line.strip()]
    else:
        samples = list(_of_source(spec, split, feature))
    if not any(samples):
        raise DataError(f"{spec}, split {split}: no captions in feature {feature!r}")
    return samples


def _of_source(spec: str, split: str, feature: str) -> Iterator[list[str]]:
    features = () if feature == "captions" else (feature,)
    source = sources.open(spec, split, features)
    components = source.components if isinstance(source, sources.Mixture) else (source,)
    for component in components:
        component.check_features(features)
        texts = reading.everything(component).map(
            lambda record, source=component: source.parse(record, features)[feature],
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        for texts_n in texts.ignore_errors().as_numpy_iterator():
            yield [text.decode("utf-8", errors="replace") for text in np.atleast_1d(texts_n)]


def count_words(samples: list[list[str]]) -> collections.Counter[str]:
    """Occurrences of each word, lower case, without accents and punctuation."""
    counts: collections.Counter[str] = collections.Counter()
    for captions in samples:
        for caption in captions:
            counts.update(word for word in basic_words(caption) if word.isalnum())
    return counts

"""Captions of a source without its pictures, for vocabularies and word counts."""

import collections
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from clipa_jax.data import reading, sources
from clipa_jax.errors import DataError
from clipa_jax.preprocess.vocab import basic_words


def read(spec: str, split: str = "train", feature: str = "captions") -> list[list[str]]:
    """The captions of every sample, in order; unreadable samples are left out.

    `spec` is a text file with one caption a line, a TFDS folder, or what `sources.open` takes.
    """
    path = Path(spec)
    if path.is_file():
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        samples = [[line.strip()] for line in lines if line.strip()]
    else:
        samples = list(_of_source(f"tfds:{spec}" if path.is_dir() else spec, split, feature))
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

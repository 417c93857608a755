"""Fingerprints of the inputs of an evaluation: data, prompts, preprocessing.

Scores are comparable only where these are equal. They do not depend on the location or time of
files, so that two machines agree.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from clipa_jax.runtime import storage

LENGTH = 16  # hexadecimal digits; a collision among a million datasets is unlikely


def of_texts(texts: Sequence[str]) -> str:
    """The fingerprint of a list of texts, such as prompts or ops."""
    return _digest(list(texts))


def of_data(source: Any) -> str:
    """The fingerprint of a split: its files' names, numbers of samples and sizes in bytes.

    Cheap; misses a change that keeps all of these. `source` is one of `data.sources`.
    """
    return _digest([[shard.name, shard.length, _sizes(shard.path)] for shard in source.shards])


def _sizes(path: str) -> list[int]:
    """Sizes of a file, or of all files in a folder, by name."""
    below = storage.walk(path) if storage.is_folder(path) else []
    paths = [storage.join(path, name) for name in below] or [path]
    return [storage.stamp(file)[0] for file in paths]


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:LENGTH]

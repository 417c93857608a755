"""Short names for what an evaluation was made of: data, prompts, preprocessing.

Two numbers may only be compared where these are the same. They do not depend on where files lie
or when they were written, so that two machines agree.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from clipa_jax.data.sources import files

LENGTH = 16  # hexadecimal digits: of a million data sets no two are alike by accident


def of_texts(texts: Sequence[str]) -> str:
    """The name of a list of texts, such as prompts or ops, in their order."""
    return _digest(list(texts))


def of_data(source: Any) -> str:
    """The name of a split: its files' names, numbers of samples and sizes in bytes.

    Cheap, and blind to a change that keeps all of these.

    Args:
      source: of `data.sources`.
    """
    return _digest([[shard.name, shard.length, _sizes(shard.path)] for shard in source.shards])


def _sizes(path: str) -> list[int]:
    """Of a file, or of all files in a folder in the order of their names."""
    below = files.walk(path) if files.is_folder(path) else []
    paths = [files.join(path, name) for name in below] or [path]
    return [files.stamp(one)[0] for one in paths]


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:LENGTH]

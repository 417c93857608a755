"""How many samples each file holds: counted once, then kept beside the files.

The record is a small JSON file in the folder of the data; where that cannot be written,
in the user's cache. A file that has changed since is counted again.
"""

import concurrent.futures
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf
from absl import logging

from clipa_jax.errors import DataError

NAME = ".clipa_jax_index.json"


def lengths(paths: Sequence[str], count: Callable[[str], int]) -> list[int]:
    """The number of samples of each file.

    Args:
      paths: files, local or of any file system that TensorFlow knows.
      count: counts the samples of one; called for files that the record does not have.

    Raises:
      DataError: a file cannot be read.
    """
    folders = {os.path.dirname(path) for path in paths}
    known = {folder: _load(folder) for folder in folders}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        stamps = list(pool.map(_stamp, paths))
        new = [
            (path, stamp)
            for path, stamp in zip(paths, stamps, strict=True)
            if known[os.path.dirname(path)].get(os.path.basename(path), [None])[:2] != stamp
        ]
        if new:
            logging.info("counting the samples of %d files, first %s", len(new), new[0][0])
        counts = list(pool.map(lambda item: _counted(item[0], count), new))
    for (path, stamp), length in zip(new, counts, strict=True):
        known[os.path.dirname(path)][os.path.basename(path)] = [*stamp, length]
    for folder in {os.path.dirname(path) for path, _ in new}:
        _save(folder, known[folder])
    return [known[os.path.dirname(path)][os.path.basename(path)][2] for path in paths]


def _counted(path: str, count: Callable[[str], int]) -> int:
    try:
        return count(path)
    except (tf.errors.OpError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def _stamp(path: str) -> list[int]:
    try:
        stat = tf.io.gfile.stat(path)
    except tf.errors.OpError as error:
        raise DataError(f"{path} cannot be read: {error.message}") from None
    return [int(stat.length), int(stat.mtime_nsec)]


def _places(folder: str) -> tuple[str, str]:
    """Beside the data, and in the user's cache."""
    digest = hashlib.sha256(os.path.abspath(folder).encode()).hexdigest()[:16]
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return os.path.join(folder, NAME), str(Path(cache) / "clipa_jax" / f"index_{digest}.json")


def _load(folder: str) -> dict[str, list[int]]:
    for place in _places(folder):
        try:
            with tf.io.gfile.GFile(place) as file:
                return json.load(file)
        except (tf.errors.OpError, ValueError):
            continue
    return {}


def _save(folder: str, record: dict[str, list[int]]) -> None:
    for place in _places(folder):
        try:
            tf.io.gfile.makedirs(os.path.dirname(place) or ".")
            unfinished = f"{place}.{os.getpid()}"
            with tf.io.gfile.GFile(unfinished, "w") as file:
                json.dump(record, file)
            tf.io.gfile.rename(unfinished, place, overwrite=True)
            return
        except tf.errors.OpError as error:
            logging.info("index of %s not kept at %s: %s", folder, place, error.message)

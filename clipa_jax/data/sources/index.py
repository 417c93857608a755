"""The index of data files: the number of samples in each and their offsets, scanned once.

It is a small JSON file in the folder of the data and, for formats that need it, a folder with a
table of offsets for each file. If that is not writable, both are in the user's cache. A file that
has changed is scanned again.
"""

import concurrent.futures
import functools
import hashlib
import io
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import logging

from clipa_jax.data.sources import files
from clipa_jax.errors import DataError

NAME = ".clipa_jax_index"
_HELD = 64  # tables in memory


@dataclass(frozen=True)
class Scan:
    """The samples of a file.

    Attributes:
      length: number of samples.
      names: members of the samples, for formats that have them.
      table: their offsets, int64 (length, columns), for formats that need them.
    """

    length: int
    names: tuple[str, ...] = ()
    table: np.ndarray | None = None


def build(paths: Sequence[str], scan: Callable[[str], Scan], *, tables: bool) -> list[Scan]:
    """The scan of each file, without its table; see `table` for that.

    Args:
      paths: the files.
      scan: scans one file; called for files that are not in the index.
      tables: whether scans have tables.

    Raises:
      DataError: a file cannot be read.
    """
    known = {folder: _load(folder) for folder in {os.path.dirname(path) for path in paths}}

    def entry(path: str) -> list | None:
        return known[os.path.dirname(path)].get(os.path.basename(path))

    with concurrent.futures.ThreadPoolExecutor() as pool:
        stamps = list(pool.map(files.stamp, paths))
        new = [
            (path, stamp)
            for path, stamp in zip(paths, stamps, strict=True)
            if (entry(path) or [None])[:2] != stamp or (tables and _table_place(path) is None)
        ]
        if new:
            logging.info("indexing %d files, first %s", len(new), new[0][0])
        scans = list(pool.map(lambda item: _scanned(item[0], scan), new))
    for (path, stamp), scanned in zip(new, scans, strict=True):
        record = [*stamp, scanned.length, list(scanned.names)]
        known[os.path.dirname(path)][os.path.basename(path)] = record
    for folder in {os.path.dirname(path) for path, _ in new}:
        _save(folder, f"{NAME}.json", json.dumps(known[folder]).encode())
    entries = [known[os.path.dirname(path)][os.path.basename(path)] for path in paths]
    return [Scan(length, tuple(names)) for _, _, length, names in entries]


@functools.lru_cache(maxsize=_HELD)
def table(path: str) -> np.ndarray:
    """The table of a file that `build` has seen: int64 (length, columns)."""
    place = _table_place(path)
    if place is None:
        raise OSError(f"the index of {path} is gone; start again to rebuild it")
    return np.load(io.BytesIO(files.read(place)), allow_pickle=False)


def _scanned(path: str, scan: Callable[[str], Scan]) -> Scan:
    try:
        scanned = scan(path)
    except files.ERRORS as error:
        raise DataError(f"{path} cannot be read: {files.message(error)}") from None
    if scanned.table is not None:
        buffer = io.BytesIO()
        np.save(buffer, scanned.table, allow_pickle=False)
        _save(os.path.dirname(path), _table_name(path), buffer.getvalue())
    return Scan(scanned.length, scanned.names)


def _table_name(path: str) -> str:
    return f"{NAME}/{os.path.basename(path)}.npy"


def _table_place(path: str) -> str | None:
    places = _places(os.path.dirname(path), _table_name(path))
    return next((place for place in places if files.exists(place)), None)


def _places(folder: str, name: str) -> list[str]:
    """Paths beside the data and in the user's cache."""
    beside = [os.path.join(folder, name)] if files.with_tensorflow(folder) else []
    where = folder if files.scheme(folder) else os.path.abspath(folder)
    digest = hashlib.sha256(where.encode()).hexdigest()[:16]
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return [*beside, str(Path(cache) / "clipa_jax" / digest / name)]


def _load(folder: str) -> dict[str, list]:
    for place in _places(folder, f"{NAME}.json"):
        try:
            record = json.loads(files.read(place))
        except (*files.ERRORS, ValueError):
            continue
        return {name: entry for name, entry in record.items() if len(entry) == 4}
    return {}


def _save(folder: str, name: str, content: bytes) -> None:
    for place in _places(folder, name):
        try:
            tf.io.gfile.makedirs(os.path.dirname(place) or ".")
            unfinished = f"{place}.{os.getpid()}"
            with tf.io.gfile.GFile(unfinished, "wb") as file:
                file.write(content)
            tf.io.gfile.rename(unfinished, place, overwrite=True)
            return
        except tf.errors.OpError as error:
            logging.info("index of %s not kept at %s: %s", folder, place, error.message)

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
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from clipa_jax.errors import DataError
from clipa_jax.runtime import storage

NAME = ".clipa_jax_index"
_HELD = 64  # tables in memory
# What compressed files begin with. Pictures inside are compressed already, so nothing is lost
# without it, and it would rule out reading from the middle.
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x78\x01": "zlib",
    b"\x78\x9c": "zlib",
    b"\x78\xda": "zlib",
}


class Scan(NamedTuple):
    """The samples of a file: their number, the names of their members and, for formats that need
    it, the table of their offsets, int64 (length, columns)."""

    length: int
    names: tuple[str, ...] = ()
    table: np.ndarray | None = None


def build(paths: Sequence[str], scan: Callable[[str], Scan], *, tables: bool) -> list[Scan]:
    """The scan of each file, without its table; see `table` for that.

    Calls `scan` for files that are not in the index; `tables` says whether it gives tables. A file
    that cannot be read raises `DataError`.
    """
    known = {folder: _load(folder) for folder in {os.path.dirname(path) for path in paths}}

    def entry(path: str) -> list | None:
        return known[os.path.dirname(path)].get(os.path.basename(path))

    with concurrent.futures.ThreadPoolExecutor() as pool:
        stamps = list(pool.map(storage.stamp, paths))
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
    return np.load(io.BytesIO(storage.read(place)), allow_pickle=False)


def refuse_compressed(path: str) -> None:
    """Raises `DataError` if a file begins like one that is compressed as a whole."""
    begin = storage.read(path, 0, 8)
    kind = next((kind for magic, kind in _COMPRESSED.items() if begin.startswith(magic)), None)
    if kind:
        raise DataError(f"{path} is compressed ({kind}), which is not read; decompress it")


def _scanned(path: str, scan: Callable[[str], Scan]) -> Scan:
    try:
        scanned = scan(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if scanned.table is not None:
        buffer = io.BytesIO()
        np.save(buffer, scanned.table, allow_pickle=False)
        _save(os.path.dirname(path), _table_name(path), buffer.getvalue())
    return Scan(scanned.length, scanned.names)


def _table_name(path: str) -> str:
    return f"{NAME}/{os.path.basename(path)}.npy"


def _table_place(path: str) -> str | None:
    places = _places(os.path.dirname(path), _table_name(path))
    return next(filter(storage.exists, places), None)


def _places(folder: str, name: str) -> list[str]:
    """Paths beside the data and in the user's cache."""
    scheme = storage.scheme(folder)
    beside = [] if scheme.startswith("http") else [os.path.join(folder, name)]
    digest = hashlib.sha256((folder if scheme else os.path.abspath(folder)).encode()).hexdigest()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return [*beside, str(Path(cache) / "clipa_jax" / digest[:16] / name)]


def _load(folder: str) -> dict[str, list]:
    for place in _places(folder, f"{NAME}.json"):
        try:
            record = json.loads(storage.read(place))
        except (OSError, ValueError):
            continue
        return {name: entry for name, entry in record.items() if len(entry) == 4}
    return {}


def _save(folder: str, name: str, content: bytes) -> None:
    for place in _places(folder, name):
        try:
            storage.make_folder(os.path.dirname(place) or ".")
            storage.write(place, content)
            return
        except OSError as error:
            logging.info("index of %s not kept at %s: %s", folder, place, error)

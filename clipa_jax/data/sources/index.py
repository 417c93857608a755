"""The index of data files: the number of samples in each and their offsets, scanned once.

It is a small JSON file with lengths in the folder of the data and, for formats that need it, a
folder with a table of offsets for each file, which is made when the file is counted or first
opened. If that is not writable, both are in the user's cache. A file that has changed is scanned
again.
"""

import concurrent.futures
import functools
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from absl import logging

from clipa_jax.data.sources import lengths
from clipa_jax.data.sources.base import Shard
from clipa_jax.errors import DataError
from clipa_jax.runtime import distributed, storage
from clipa_jax.runtime.progress import Progress

T = TypeVar("T")
NAME = ".clipa_jax_index"
_HELD = 64  # tables in memory
_THREADS = 32  # that count: they wait for the storage
# What compressed files begin with. Pictures inside are compressed already, so nothing is lost
# without it, and it would rule out reading from the middle.
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
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
    table: Any = None


Names = dict[str, Sequence[str]]


def shards(
    files: Sequence[storage.File], scan: Callable[[str], Scan]
) -> tuple[tuple[Shard, ...], Names]:
    """The files as shards, and the names of members by path, of those that have been scanned.

    Lengths come from the index, or from a record beside the data (`lengths`), else `scan` counts. A
    file that cannot be read raises `DataError`.
    """
    stamps = dict(files)
    known = _by_folder(_load, stamps)
    new = [path for path, stamp in stamps.items() if _of(known, path, [])[:2] != stamp]
    recorded = _by_folder(lengths.of_folder, new)
    scans = {path: Scan(n) for path in new if (n := _of(recorded, path)) is not None}
    if len(scans) < len(new):
        scans |= _counted({path: stamps[path] for path in new if path not in scans}, scan)
    for path, scanned in scans.items():
        folder, name = os.path.split(path)
        known[folder][name] = [*stamps[path], scanned.length, scanned.names]

    def save(folder: str) -> None:
        _save(folder, f"{NAME}.json", json.dumps(known[folder]).encode())

    _by_folder(save, new)
    in_order = tuple(Shard(file.path, _of(known, file.path)[2]) for file in files)
    return in_order, {path: names for path in stamps if (names := _of(known, path)[3])}


def _by_folder(function: Callable[[str], T], paths: Iterable[str]) -> dict[str, T]:
    """The results of a function for each folder that has some of the files."""
    folders = list(dict.fromkeys(map(os.path.dirname, paths)))
    return dict(zip(folders, storage.in_parallel(function, folders), strict=True))


def _of(folders: Mapping[str, Mapping[str, Any]], path: str, missing: Any = None) -> Any:
    folder, name = os.path.split(path)
    return folders[folder].get(name, missing)


def _counted(stamps: Mapping[str, list[int]], scan: Callable[[str], Scan]) -> dict[str, Scan]:
    """Scans of files, without their tables, in parallel; those with a record of their own are not
    read.

    Each host begins with a part of its own, and takes over the tables of files that another host,
    or a start that was cut off, has stored by then.
    """
    logging.info("counting the samples of %d files, first %s", len(stamps), next(iter(stamps)))
    scans: dict[str, Scan] = {}

    def count(path: str) -> tuple[str, Scan]:
        recorded = lengths.of_file(path)
        if recorded is not None:
            return path, Scan(recorded)
        scanned = _stored(path, stamps[path]) or _scanned(path, scan, stamps[path])
        return path, scanned._replace(table=None)

    with (
        concurrent.futures.ThreadPoolExecutor(_THREADS) as pool,
        Progress("counting", len(stamps), unit="files", shown=len(stamps) > _THREADS) as progress,
    ):
        for path, scanned in pool.map(count, distributed.own_part_first(list(stamps))):
            scans[path] = scanned
            progress.update(len(scans))
    return scans


@functools.lru_cache(maxsize=_HELD)
def opened(path: str, scan: Callable[[str], Scan]) -> Scan:
    """The scan of a file with its table, which is made when the file is opened first."""
    stamp = storage.stamp(path)
    return _stored(path, stamp) or _scanned(path, scan, stamp)


def _stored(path: str, stamp: list[int]) -> Scan | None:
    """The scan of a file whose table is stored; None if there is none for this state of it."""
    for place in _places(os.path.dirname(path), _table_name(path)):
        content = storage.read_or_nothing(place)
        if not content:
            continue
        with np.load(io.BytesIO(content), allow_pickle=False) as saved:
            if saved["stamp"].tolist() == stamp:
                return Scan(len(saved["table"]), tuple(saved["names"].tolist()), saved["table"])
    return None


def refuse_compressed(path: str) -> None:
    """Raises `DataError` if a file begins like one that is compressed as a whole."""
    begin = storage.read(path, 0, 8)
    kind = next((kind for magic, kind in _COMPRESSED.items() if begin.startswith(magic)), None)
    if kind:
        raise DataError(f"{path} is compressed ({kind}), which is not read; decompress it")


def _scanned(path: str, scan: Callable[[str], Scan], stamp: list[int]) -> Scan:
    try:
        scanned = scan(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if scanned.table is not None:
        buffer, names = io.BytesIO(), np.array(scanned.names, np.str_)
        np.savez(buffer, stamp=np.array(stamp), names=names, table=scanned.table)
        _save(os.path.dirname(path), _table_name(path), buffer.getvalue())
    return scanned


def _table_name(path: str) -> str:
    return f"{NAME}/{os.path.basename(path)}.npz"


def _places(folder: str, name: str) -> list[str]:
    """Paths beside the data and in the user's cache."""
    scheme = storage.scheme(folder)
    beside = [] if scheme.startswith("http") else [os.path.join(folder, name)]
    digest = hashlib.sha256((folder if scheme else os.path.abspath(folder)).encode()).hexdigest()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return [*beside, str(Path(cache) / "clipa_jax" / digest[:16] / name)]


def _load(folder: str) -> dict[str, list]:
    records = map(lengths.document, _places(folder, f"{NAME}.json"))
    record = next((record for record in records if isinstance(record, dict)), {})
    return {name: entry for name, entry in record.items() if len(entry) == 4}


def _save(folder: str, name: str, content: bytes) -> None:
    for place in _places(folder, name):
        try:
            storage.make_folder(os.path.dirname(place) or ".")
            storage.write(place, content)
            return
        except OSError as error:
            logging.info("index of %s not kept at %s: %s", folder, place, error)

"""Files wherever they are: paths from patterns, and bytes from the middle of a file.

Local paths are read by the operating system, `gs://` by TensorFlow, everything else
(`https://`, `s3://`, ...) by fsspec, some of whose schemes need a package of their own.
"""

import builtins
import functools
import hashlib
import io
import itertools
import os
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import fsspec
import tensorflow as tf

from clipa_jax.errors import DataError, MissingData

# Errors of reading, by any library; other errors of fsspec are turned into OSError.
ERRORS = (OSError, tf.errors.OpError)
_SCHEME = re.compile(r"^([a-z][a-z0-9+.-]*)://")
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
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def scheme(path: str) -> str:
    """`https` of `https://...`; empty for local paths."""
    match = _SCHEME.match(path)
    return "" if match is None or match[1] == "file" else match[1]


def with_tensorflow(path: str) -> bool:
    """Whether TensorFlow's own readers can open the path."""
    return scheme(path) in _tensorflow_schemes()


def expand(where: str, spec: str) -> list[str]:
    """The files that match one or more patterns, sorted within each pattern.

    Args:
      where: patterns separated by commas, with braces, `{00000..00012}` or `{a,b}`, and globs.
      spec: the source, for messages.

    Raises:
      MissingData: a pattern that matches no file.
    """
    paths: list[str] = []
    for pattern in _at_commas(where):
        for part in braces(pattern):
            matches = [part] if not re.search(r"[*?\[]", part) else glob(part)
            if not matches or (matches == [part] and not exists(part)):
                raise MissingData(f"{spec}: no files match {part}", dataset=spec, looked=part)
            paths += matches
    return paths


def braces(pattern: str) -> Iterator[str]:
    """The expansions of a pattern with braces, in order; `{08..11}` keeps the leading zeros."""
    start = pattern.find("{")
    stop = pattern.find("}", start)
    if start < 0 or stop < 0:
        yield pattern
        return
    inside, rest = pattern[start + 1 : stop], list(braces(pattern[stop + 1 :]))
    numbers = _RANGE.fullmatch(inside)
    if numbers:
        first, last = int(numbers[1]), int(numbers[2])
        step = 1 if first <= last else -1
        options = [f"{n:0{len(numbers[1])}d}" for n in range(first, last + step, step)]
    else:
        options = inside.split(",")
    for option, end in itertools.product(options, rest):
        yield pattern[:start] + option + end


def glob(pattern: str) -> list[str]:
    """The files that match, sorted."""
    if with_tensorflow(pattern):
        return sorted(tf.io.gfile.glob(pattern))
    system, path = _system(pattern)
    return sorted(system.unstrip_protocol(match) for match in _guarded(system.glob, path))


def exists(path: str) -> bool:
    """Whether there is such a file or folder."""
    if with_tensorflow(path):
        return tf.io.gfile.exists(path)
    system, inside = _system(path)
    return bool(_guarded(system.exists, inside))


def is_folder(path: str) -> bool:
    """Whether there is such a folder."""
    if with_tensorflow(path):
        return tf.io.gfile.isdir(path)
    system, inside = _system(path)
    return bool(_guarded(system.isdir, inside))


def stamp(path: str) -> list[int]:
    """Identifies the version of a file: its size and, if known, its time of change in ns.

    Raises:
      DataError: it cannot be read.
    """
    try:
        if with_tensorflow(path):
            stat = tf.io.gfile.stat(path)
            return [int(stat.length), int(stat.mtime_nsec)]
        system, inside = _system(path)
        info = _guarded(system.info, inside)
    except ERRORS as error:
        raise DataError(f"{path} cannot be read: {message(error)}") from None
    if info.get("size") is None:
        raise DataError(f"{path} cannot be read: the server does not give its size")
    changed = info.get("mtime") or info.get("LastModified") or info.get("ETag")
    return [int(info["size"]), _number(changed)]


def read_or_nothing(path: str) -> bytes:
    """The content of a file; empty if it cannot be read, which counts as a missing picture."""
    try:
        return read(path)
    except (*ERRORS, ValueError):  # the latter: a path with a NUL in it
        return b""


def read(path: str, offset: int = 0, size: int | None = None) -> bytes:
    """Bytes [offset, offset + size) of a file, to its end without a size; fewer where it ends."""
    if not scheme(path) and size is not None:
        with open(path) as file:
            return os.pread(file.fileno(), size, offset)
    if with_tensorflow(path):
        with open(path) as file:
            file.seek(offset)
            return file.read(-1 if size is None else size)
    system, inside = _system(path)
    if size is None:
        return _guarded(system.cat_file, inside)[offset:]
    data = _guarded(system.cat_file, inside, start=offset, end=offset + size)
    # A server without support of ranges sends the whole file.
    return data if len(data) <= size else data[offset : offset + size]


def refuse_compressed(path: str) -> None:
    """Raises `DataError` if a file begins like one that is compressed as a whole."""
    begin = read(path, 0, 8)
    kind = next((kind for magic, kind in _COMPRESSED.items() if begin.startswith(magic)), None)
    if kind:
        raise DataError(f"{path} is compressed ({kind}), which is not read; decompress it")


def open(path: str) -> BinaryIO:
    """A file to read and seek in."""
    if not scheme(path):
        return builtins.open(path.removeprefix("file://"), "rb")
    if with_tensorflow(path):
        return io.BufferedReader(_Raw(tf.io.gfile.GFile(path, "rb")))
    system, inside = _system(path)
    return _guarded(system.open, inside, "rb")


def walk(folder: str) -> list[str]:
    """All files below a folder, relative to it, sorted; links to folders above it end."""
    if not scheme(folder):
        folder = folder.removeprefix("file://")
        paths = [os.path.join(parent, name) for parent, names in _local(folder) for name in names]
    elif with_tensorflow(folder):
        tree = tf.io.gfile.walk(folder)
        paths = [os.path.join(parent, name) for parent, _, names in tree for name in names]
    else:
        system, folder = _system(folder)
        paths = _guarded(system.find, folder)
    return sorted(os.path.relpath(path, folder) for path in paths)


def folders(folder: str) -> list[str]:
    """The names of the folders in a folder, sorted."""
    if with_tensorflow(folder):
        names = [name.rstrip("/") for name in tf.io.gfile.listdir(folder)]
        return sorted(name for name in names if tf.io.gfile.isdir(os.path.join(folder, name)))
    system, inside = _system(folder)
    entries = _guarded(system.ls, inside, detail=True)
    inner = [entry["name"].rstrip("/") for entry in entries if entry["type"] == "directory"]
    return sorted(map(os.path.basename, inner))


def join(folder: str, name: str) -> str:
    """A path inside a folder; `name` may be a whole path of its own."""
    return name if scheme(name) or name.startswith("/") else os.path.join(folder, name)


def message(error: Exception) -> str:
    """The message of an error of `ERRORS`."""
    return getattr(error, "message", "") or str(error)


class _Raw(io.RawIOBase):
    """A file of TensorFlow as a raw stream of Python."""

    def __init__(self, file: tf.io.gfile.GFile):
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._file.seek(offset, whence)
        return self._file.tell()

    def tell(self) -> int:
        return self._file.tell()


def _local(folder: str) -> Iterator[tuple[str, list[str]]]:
    """Folders below one, each with the names of its files; links are followed."""
    for parent, inner, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        # A link to this folder or to one above it would not end.
        inner[:] = [
            name
            for name in inner
            if not os.path.join(real, "").startswith(
                os.path.join(os.path.realpath(os.path.join(parent, name)), "")
            )
        ]
        yield parent, names


def _at_commas(where: str) -> list[str]:
    """Parts between the commas that stand outside braces."""
    return [part.strip() for part in re.split(r",(?![^{}]*\})", where) if part.strip()]


@functools.cache
def _tensorflow_schemes() -> frozenset[str]:
    return frozenset(tf.io.gfile.get_registered_schemes())


def _system(path: str) -> tuple[Any, str]:
    """The file system of fsspec that has a path, and the path as it calls it."""
    try:
        return fsspec.core.url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def _guarded(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return function(*args, **kwargs)
    except ERRORS:
        raise
    except Exception as error:  # noqa: BLE001 (each file system has errors of its own)
        raise OSError(f"{type(error).__name__}: {error}") from error


def _number(changed: Any) -> int:
    """A time of change, or an entity tag, as a number that changes with it."""
    if isinstance(changed, int | float):
        return int(changed * 1e9)
    digest = hashlib.sha256(str(changed).encode()).digest()
    return 0 if changed is None else int.from_bytes(digest[:6], "little")

"""Files wherever they are: local paths, and by fsspec `gs://`, `https://`, `s3://`, ...

Some schemes need a package of their own, as `s3://` needs `s3fs`. Every error of reading or writing
is an `OSError`, whatever the library. Data, prepared datasets and small files (`runtime.files`) all
go through this module, except for what TensorFlow and Orbax read by themselves.
"""

import builtins
import collections
import concurrent.futures
import contextlib
import glob as local_glob
import hashlib
import io
import itertools
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple, TypeVar

import fsspec

from clipa_jax.errors import DataError, MissingData

# A listing would miss what other processes write.
for _name in ("gs", "gcs", "s3"):
    fsspec.config.conf.setdefault(_name, {}).setdefault("use_listings_cache", False)

T = TypeVar("T")
Stamp = list[int]  # as JSON has it

_SCHEME = re.compile(r"^([a-z][a-z0-9+.-]*)://")
_GLOB = re.compile(r"[*?\[]")
_FEW = 8  # files for which a folder is not listed
_THREADS = 32  # that ask for files: they wait for the storage
_ONE_BY_ONE = ("", "http", "https")  # schemes whose files are looked at one by one
SCANNED = 16 << 20  # bytes of a request where a remote file is read to its end
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


class File(NamedTuple):
    """A file, and its version when it was listed."""

    path: str
    stamp: Stamp


def scheme(path: str) -> str:
    """`https` of `https://...`; empty for local paths."""
    match = _SCHEME.match(path)
    return "" if match is None or match[1] == "file" else match[1]


def join(folder: str, name: str) -> str:
    """A path inside a folder; `name` may be a whole path of its own."""
    return name if scheme(name) or name.startswith("/") else os.path.join(folder, name)


def exists(path: str) -> bool:
    """Whether there is such a file or folder."""
    return bool(_call("exists", path))


def is_folder(path: str) -> bool:
    """Whether there is such a folder."""
    return bool(_call("isdir", path))


def stamp(path: str) -> Stamp:
    """The version of a file: its size in bytes and a number that changes with its content.

    Raises `DataError` if it cannot be read.
    """
    try:
        return _stamp(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def present(paths: Sequence[str]) -> dict[str, Stamp]:
    """Those of the files that are there, with the `stamp` of each.

    Where many lie in a folder of an object store, its listing says so.
    """
    folders = collections.Counter(map(os.path.dirname, paths))
    many = [f for f, number in folders.items() if number > _FEW and scheme(f) not in _ONE_BY_ONE]
    listed = dict(zip(many, in_parallel(_entries, many), strict=True))

    def look(path: str) -> Stamp | None:
        folder, name = os.path.split(path)
        if folder in listed:
            entry = listed[folder].get(name)
            return _stamp(path, entry) if entry else None
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return _stamp(path)
        return None

    stamps = in_parallel(look, paths)
    return {path: stamp for path, stamp in zip(paths, stamps, strict=True) if stamp}


def _stamp(path: str, info: Mapping[str, Any] | None = None) -> Stamp:
    """`stamp`, perhaps from the entry of a listing."""
    if not scheme(path):
        stat = os.stat(_local(path))
        return [stat.st_size, stat.st_mtime_ns]
    if info is None or info.get("size") is None:
        info = _call("info", path)
    if info.get("size") is None:
        raise DataError(f"{path} cannot be read: the server does not give its size")
    changed = info.get("mtime") or info.get("LastModified") or info.get("ETag")
    return [int(info["size"]), _number(changed)]


def modified(path: str) -> float:
    """Seconds since 1970 when a file was written."""
    return _call("modified", path).timestamp()


def open(path: str, mode: str = "rb") -> Any:
    """A binary file to read and seek in, or to write."""
    return _call("open", path, mode)


def scan(path: str) -> BinaryIO:
    """A file to read from its beginning to its end, with many small steps forward; of a remote one,
    a request reads `SCANNED` bytes."""
    return io.BufferedReader(_Remote(path), SCANNED) if scheme(path) else open(path)


def read(path: str, offset: int = 0, size: int | None = None) -> bytes:
    """Bytes [offset, offset + size) of a file, to its end without a size; fewer where it ends."""
    if not scheme(path):
        with open(path) as file:
            if size is not None:
                return os.pread(file.fileno(), size, offset)
            file.seek(offset)
            return file.read()
    if size is None:
        return _call("cat_file", path, start=offset) if offset else _call("cat_file", path)
    data = _call("cat_file", path, start=offset, end=offset + size)
    # A server without support of ranges sends the whole file.
    return data if len(data) <= size else data[offset : offset + size]


def read_or_nothing(path: str) -> bytes:
    """The content of a file; empty if it cannot be read."""
    try:
        return read(path)
    except OSError:
        return b""


@contextlib.contextmanager
def whole(path: str) -> Iterator[str]:
    """A name to write to; the file appears as `path` when the block ends without an exception.

    Several processes may write the same file at once, as Beam's runners do when one is late.
    """
    part = f"{path}.part-{uuid.uuid4().hex[:12]}"
    try:
        yield part
        rename(part, path)
    finally:
        with contextlib.suppress(OSError):
            remove(part)


def write(path: str, content: bytes) -> None:
    """Writes a file, whole or not at all."""
    if scheme(path):
        _call("pipe_file", path, content)
        return
    with whole(path) as part, open(part, "wb") as file:
        file.write(content)


def rename(path: str, target: str) -> None:
    """Moves a file or folder, in place of a file of that name."""
    if scheme(path):
        _call("mv", path, _system(target)[1])
    else:
        os.replace(_local(path), _local(target))


def remove(path: str, *, folder: bool = False) -> None:
    """Removes a file, or a folder with all that is in it."""
    _call("rm", path, recursive=folder)


def make_folder(path: str) -> None:
    """Makes a folder and those above it, where they are missing."""
    _call("makedirs", path, exist_ok=True)


def names(folder: str, *, folders: bool = False) -> list[str]:
    """The names of all entries of a folder, or of the folders in it, sorted."""
    return sorted(n for n, e in _entries(folder).items() if not folders or e["type"] == "directory")


def _entries(folder: str) -> dict[str, Mapping[str, Any]]:
    """The entries of a folder by name; none of one that is missing in an object store, where a
    folder without files is none."""
    try:
        entries = _call("ls", folder, detail=True)
    except FileNotFoundError:
        if scheme(folder) in _ONE_BY_ONE:
            raise
        return {}
    return {os.path.basename(entry["name"].rstrip("/")): entry for entry in entries}


def walk(folder: str) -> list[str]:
    """All files below a folder, relative to it, sorted; links to folders above it end."""
    if scheme(folder):
        paths, folder = _call("find", folder), _system(folder)[1]
    else:
        folder = _local(folder)
        paths = [os.path.join(parent, name) for parent, files in _tree(folder) for name in files]
    return sorted(os.path.relpath(path, folder) for path in paths)


def glob(pattern: str) -> dict[str, Stamp]:
    """The files that match, sorted, with the `stamp` of each."""
    if not scheme(pattern):
        paths = sorted(local_glob.glob(_local(pattern), recursive=True))
        return dict(zip(paths, in_parallel(stamp, paths), strict=True))
    system, _ = _system(pattern)
    hidden = os.path.basename(pattern).startswith(".")
    infos = {
        system.unstrip_protocol(name): info
        for name, info in _call("glob", pattern, detail=True).items()
        if info["type"] == "file" and (hidden or not os.path.basename(name).startswith("."))
    }
    paths = sorted(infos)
    return dict(zip(paths, in_parallel(_stamp, paths, map(infos.get, paths)), strict=True))


def expand(where: str, spec: str) -> list[File]:
    """The files that match patterns, sorted within each pattern.

    Patterns are separated by commas and have globs and braces, `{00000..00012}` or `{a,b}`. One
    that matches no file raises `MissingData`, with `spec`, the source, in its message.
    """
    try:
        return _expand(where, spec)
    except OSError as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{spec}: its files cannot be listed: {reason}; check the address and the permissions"
        ) from None


def _expand(where: str, spec: str) -> list[File]:
    files: list[File] = []
    for pattern in re.split(r",(?![^{}]*\})", where):  # commas outside braces
        parts = list(braces(pattern.strip())) if pattern.strip() else []
        plain = present([part for part in parts if not _GLOB.search(part)])
        for part in parts:
            if _GLOB.search(part):
                matches = glob(part)
            else:
                matches = {part: plain[part]} if part in plain else {}
            if not matches:
                raise MissingData(f"{spec}: no files match {part}", dataset=spec, looked=part)
            files += itertools.starmap(File, matches.items())
    return files


def in_parallel(function: Callable[..., T], *arguments: Iterable[Any]) -> list[T]:
    """`map` in threads, for functions that wait for the storage."""
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(function, *arguments))


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


class _Remote(io.RawIOBase):
    """A remote file of which each read is a request: files of gcsfs take several for large reads,
    and as many for small ones, whatever the size of their blocks."""

    def __init__(self, path: str):
        self.name, self._size, self._at = path, stamp(path)[0], 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = max(min(len(buffer), self._size - self._at), 0)
        data = read(self.name, self._at, count) if count else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _local(path: str) -> str:
    return path.removeprefix("file://")


def _system(path: str) -> tuple[Any, str]:
    """The file system of fsspec that has a path, and the path as it calls it."""
    try:
        return fsspec.core.url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def _call(method: str, path: str, *args: Any, **kwargs: Any) -> Any:
    """A method of a path's file system; errors that are none of Python's become `OSError`."""
    try:
        if method == "open" and not scheme(path):
            return builtins.open(_local(path), *args)
        system, inside = _system(path)
        return getattr(system, method)(inside, *args, **kwargs)
    except (OSError, DataError):
        raise
    except Exception as error:  # noqa: BLE001 (each file system has errors of its own)
        raise OSError(f"{type(error).__name__}: {error}") from error


def _tree(folder: str) -> Iterator[tuple[str, list[str]]]:
    """Local folders below one, each with the names of its files; links are followed."""
    for parent, inner, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        # A link to this folder or to one above it would not end.
        inner[:] = [
            name
            for name in inner
            if not os.path.join(real, "").startswith(
                os.path.join(os.path.realpath(os.path.join(parent, name)), "")
            )
        ]
        yield parent, files


def _number(changed: Any) -> int:
    """A time of change, or an entity tag, as a number that changes with it."""
    if isinstance(changed, int | float):
        return int(changed * 1e9)
    digest = hashlib.sha256(str(changed).encode()).digest()
    return 0 if changed is None else int.from_bytes(digest[:6], "little")

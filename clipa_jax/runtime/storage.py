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
import itertools
import os
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import fsspec

from clipa_jax.errors import DataError, MissingData

# A listing would miss what other processes write.
for _name in ("gs", "gcs", "s3"):
    fsspec.config.conf.setdefault(_name, {}).setdefault("use_listings_cache", False)

_SCHEME = re.compile(r"^([a-z][a-z0-9+.-]*)://")
_GLOB = re.compile(r"[*?\[]")
_FEW = 8  # files for which a folder is not listed
_ONE_BY_ONE = ("", "http", "https")  # schemes whose files are looked at one by one
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


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


def stamp(path: str) -> list[int]:
    """The version of a file: its size in bytes and, if known, its time of change in ns.

    Raises `DataError` if it cannot be read.
    """
    try:
        if not scheme(path):
            stat = os.stat(_local(path))
            return [stat.st_size, stat.st_mtime_ns]
        info = _call("info", path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    return _stamp(path, info)


def stamps(paths: Sequence[str]) -> list[list[int]]:
    """The `stamp` of each file; where many lie in a folder of an object store, by its listing."""
    listed: dict[str, list[int]] = {}
    for folder, number in collections.Counter(map(os.path.dirname, paths)).items():
        if number > _FEW and scheme(folder) not in _ONE_BY_ONE:
            entries = {os.path.basename(e["name"]): e for e in _call("ls", folder, detail=True)}
            inside = (path for path in paths if os.path.dirname(path) == folder)
            named = ((path, entries.get(os.path.basename(path))) for path in inside)
            listed |= {path: _stamp(path, entry) for path, entry in named if entry}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(lambda path: listed.get(path) or stamp(path), paths))


def _stamp(path: str, info: Mapping[str, Any]) -> list[int]:
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


def read(path: str, offset: int = 0, size: int | None = None) -> bytes:
    """Bytes [offset, offset + size) of a file, to its end without a size; fewer where it ends."""
    if not scheme(path):
        with open(path) as file:
            if size is not None:
                return os.pread(file.fileno(), size, offset)
            file.seek(offset)
            return file.read()
    if size is None:
        return _call("cat_file", path)[offset:]
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
    entries = _call("ls", folder, detail=True)
    if folders:
        entries = [entry for entry in entries if entry["type"] == "directory"]
    return sorted(os.path.basename(entry["name"].rstrip("/")) for entry in entries)


def walk(folder: str) -> list[str]:
    """All files below a folder, relative to it, sorted; links to folders above it end."""
    if scheme(folder):
        paths, folder = _call("find", folder), _system(folder)[1]
    else:
        folder = _local(folder)
        paths = [os.path.join(parent, name) for parent, files in _tree(folder) for name in files]
    return sorted(os.path.relpath(path, folder) for path in paths)


def glob(pattern: str) -> list[str]:
    """The files that match, sorted."""
    if not scheme(pattern):
        return sorted(local_glob.glob(_local(pattern), recursive=True))
    system, _ = _system(pattern)
    return sorted(system.unstrip_protocol(match) for match in _call("glob", pattern))


def expand(where: str, spec: str) -> list[str]:
    """The files that match patterns, sorted within each pattern.

    Patterns are separated by commas and have globs and braces, `{00000..00012}` or `{a,b}`. One
    that matches no file raises `MissingData`, with `spec`, the source, in its message.
    """
    paths: list[str] = []
    for pattern in re.split(r",(?![^{}]*\})", where):  # commas outside braces
        parts = list(braces(pattern.strip())) if pattern.strip() else []
        present = _present([part for part in parts if not _GLOB.search(part)])
        for part in parts:
            matches = glob(part) if _GLOB.search(part) else [part] * (part in present)
            if not matches:
                raise MissingData(f"{spec}: no files match {part}", dataset=spec, looked=part)
            paths += matches
    return paths


def _present(paths: Sequence[str]) -> set[str]:
    """Those of the files that are there."""
    if len(paths) > _FEW and scheme(paths[0]) not in _ONE_BY_ONE:
        folders = {os.path.dirname(path) for path in paths}
        return {f"{folder}/{name}" for folder in folders for name in names(folder)}
    return set(filter(exists, paths))


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

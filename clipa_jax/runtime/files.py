"""Small files, read and written whole: bytes, text and JSON, by path.

All files of a workdir go through this module, except for checkpoints; `Path` is a path on disk or
in a bucket. An interrupted write leaves the old file or none, never a partial one.
"""

import json
import os
from typing import Any

from etils.epath import Path

from clipa_jax.errors import DataError
from clipa_jax.runtime import storage

PathLike = str | os.PathLike[str]


def scheme(path: PathLike) -> str:
    """`gs` of a path in Google's buckets; "" of a local one."""
    return storage.scheme(os.fspath(path))


def absolute(path: PathLike) -> Path:
    """A local path from the root on; an address as it is."""
    return Path(path) if scheme(path) else Path(path).resolve()


def modified(path: PathLike) -> float:
    """Seconds since 1970 when a file was written."""
    return storage.modified(os.fspath(path))


def make_folder(path: PathLike) -> None:
    """Makes a local folder and those above it; a bucket needs none."""
    if not scheme(path):
        Path(path).mkdir(parents=True, exist_ok=True)


def reason(error: Exception) -> str:
    """The short reason of an error of reading or writing."""
    text = getattr(error, "strerror", None) or " ".join(str(error).split())
    return text[:300] or type(error).__name__


def exists(path: PathLike) -> bool:
    """Whether there is such a file or folder; `DataError` if a bucket does not answer."""
    try:
        return storage.exists(os.fspath(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}") from None


def open(path: PathLike) -> Any:
    """A binary file to read and seek in."""
    return storage.open(os.fspath(path))


def read_bytes(path: PathLike) -> bytes:
    """The content of a file; `DataError` if it is missing or cannot be read."""
    try:
        return storage.read(os.fspath(path))
    except FileNotFoundError:
        raise DataError(f"no file {path}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}") from None


def read_text(path: PathLike) -> str:
    """The content of a UTF-8 file; `DataError` if there is none."""
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}") from None


def read_json(path: PathLike) -> Any:
    """The content of a JSON file; `DataError` if there is none."""
    content = read_bytes(path)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}); correct it or move it away") from None


def write_bytes(path: PathLike, content: bytes) -> None:
    """Writes a file, whole or not at all; the folder must exist."""
    storage.write(os.fspath(path), content)


def write_text(path: PathLike, content: str) -> None:
    """`write_bytes` of text in UTF-8."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: PathLike, content: Any, indent: int = 1) -> None:
    """`write_text` of JSON."""
    write_text(path, json.dumps(content, indent=indent) + "\n")

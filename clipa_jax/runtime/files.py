"""Small files, read and written whole: bytes, text and JSON, by path.

All files of a workdir go through this module, except for checkpoints and for metrics.jsonl, which
grows. A write that is cut off leaves the old file, or none; never a part of the new one.
"""

import json
import os
from typing import Any

from clipa_jax.errors import DataError
from clipa_jax.runtime import storage

PathLike = str | os.PathLike[str]


def read_bytes(path: PathLike) -> bytes:
    """The content of a file; `DataError` if it is missing or cannot be read."""
    try:
        return storage.read(os.fspath(path))
    except FileNotFoundError:
        raise DataError(f"no file {path}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None


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
        raise DataError(f"{path} is not JSON ({error}); move it away") from None


def write_bytes(path: PathLike, content: bytes) -> None:
    """Writes a file, whole or not at all; the folder must exist."""
    storage.write(os.fspath(path), content)


def write_text(path: PathLike, content: str) -> None:
    """`write_bytes` of text in UTF-8."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: PathLike, content: Any, indent: int = 1) -> None:
    """`write_text` of JSON."""
    write_text(path, json.dumps(content, indent=indent) + "\n")

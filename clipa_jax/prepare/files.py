"""Files that are there whole or not at all, on any file system that TensorFlow knows."""

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from clipa_jax.errors import DataError


@contextlib.contextmanager
def whole(path: str) -> Iterator[str]:
    """A name to write to; the file appears as `path` when the block ends without an exception.

    Several processes may write the same file at once, as Beam's runners do when one is late.
    """
    part = f"{path}.part-{uuid.uuid4().hex[:12]}"
    try:
        yield part
        tf.io.gfile.rename(part, path, overwrite=True)
    finally:
        with contextlib.suppress(tf.errors.OpError):
            tf.io.gfile.remove(part)


def is_local(path: str) -> bool:
    """Whether the file system is this machine's."""
    return "://" not in path


def join(folder: str, *names: str) -> str:
    """A path below a folder."""
    return os.path.join(folder, *names)


def write_json(path: str, content: Any) -> None:
    """Writes a JSON file, whole."""
    with whole(path) as part, tf.io.gfile.GFile(part, "w") as file:
        file.write(json.dumps(content, indent=1) + "\n")


def read_json(path: str) -> Any:
    """Reads a JSON file.

    Raises:
      DataError: it is not there or not JSON.
    """
    try:
        with tf.io.gfile.GFile(path) as file:
            return json.loads(file.read())
    except (tf.errors.OpError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None

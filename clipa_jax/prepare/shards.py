"""The files of a prepared dataset, written and read back."""

import contextlib
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf
from array_record.python import array_record_module

from clipa_jax.errors import DataError
from clipa_jax.prepare import partitions
from clipa_jax.prepare.layout import Layout
from clipa_jax.runtime import storage


def write(entry_X: np.ndarray, shard: int, layout: Layout, source: str, target: str) -> None:
    """Writes a shard's file to the folder `target` unless it exists, and reads it back.

    The entries may come in any order; the folder `source` has the partitions.
    """
    entry_X = entry_X[np.argsort(entry_X["key"])]
    expected = layout.lengths[shard]
    if len(entry_X) != expected:
        raise DataError(f"shard {shard} has {len(entry_X)} samples, expected {expected}")
    path = storage.join(target, layout.file_names[shard])
    if storage.exists(path):
        check(path, layout.file_format, entry_X)
        return
    with storage.whole(path) as part:
        write_file(part, layout.file_format, partitions.read_records(source, entry_X))
        check(part, layout.file_format, entry_X)


def write_file(path: str, file_format: str, records: Iterable[bytes]) -> None:
    """Writes a file of records, by way of a local one: the writers know few file systems."""
    with _local(path) as name:
        if file_format == "tfrecord":
            writer = tf.io.TFRecordWriter(name)
        else:
            writer = array_record_module.ArrayRecordWriter(name, "group_size:1")
        for record in records:
            writer.write(record)
        writer.close()
        if name != path:
            _copy(name, path)


def read(path: str, file_format: str) -> Iterator[bytes]:
    """The records of a file."""
    with _local(path) as name:
        if name != path:
            _copy(path, name)
        if file_format == "tfrecord":
            yield from tf.data.TFRecordDataset(name).as_numpy_iterator()
        else:
            reader = array_record_module.ArrayRecordReader(name)
            yield from reader.read_all()
            reader.close()


def check(path: str, file_format: str, entry_X: np.ndarray) -> None:
    """Raises `DataError` unless a file holds the records of these entries, in their order."""
    try:
        checksums = [zlib.crc32(record) for record in read(path, file_format)]
    except (tf.errors.OpError, OSError, RuntimeError) as error:
        raise DataError(f"{path} cannot be read back: {error}") from None
    if checksums != entry_X["crc"].tolist():
        raise DataError(
            f"{path} differs from what was written: {len(checksums)} records, expected "
            f"{len(entry_X)}; delete it and start again"
        )


@contextlib.contextmanager
def _local(path: str) -> Iterator[str]:
    """A local name for a file: its own, or one that is removed in the end."""
    if not storage.scheme(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        yield os.path.join(folder, "records")


def _copy(path: str, target: str) -> None:
    with storage.open(path) as file, storage.open(target, "wb") as copy:
        shutil.copyfileobj(file, copy)

"""The files of a prepared dataset, written and read back."""

import contextlib
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf
from array_record.python import array_record_module

from clipa_jax.errors import DataError
from clipa_jax.prepare import files, partitions
from clipa_jax.prepare.options import Options


def file_name(options: Options, shard: int, num_shards: int) -> str:
    """As TFDS names the file of a shard."""
    stem = f"{options.name}-{options.into}.{options.file_format}"
    return f"{stem}-{shard:05d}-of-{num_shards:05d}"


def write(
    options: Options, fact_X: np.ndarray, shard: int, num_shards: int, kept: int, folders: tuple
) -> None:
    """Makes the file of a shard, unless it is there.

    Args:
      options: of the dataset.
      fact_X: of the shard's samples, in any order.
      shard: its number.
      num_shards: of the dataset.
      kept: samples of the dataset.
      folders: where the pieces are, and where the shard goes.

    Raises:
      DataError: samples are missing; what was written does not read back as it should.
    """
    source, target = folders
    fact_X = fact_X[np.argsort(fact_X["key"])]
    expected = lengths(kept, num_shards)[shard]
    if len(fact_X) != expected:
        raise DataError(f"shard {shard}: came {len(fact_X)} samples, expected {expected}")
    path = files.join(target, file_name(options, shard, num_shards))
    if tf.io.gfile.exists(path):
        check(path, options.file_format, fact_X)
        return
    with files.whole(path) as part:
        WRITERS[options.file_format](part, partitions.read_records(source, fact_X))
        check(part, options.file_format, fact_X)


def read(path: str, file_format: str) -> Iterator[bytes]:
    """The records of a file."""
    return READERS[file_format](path)


def how_many(options: Options, kept: int, size: int) -> int:
    """The number of shards for so many samples, whose records have `size` bytes."""
    wanted = options.num_shards or -(-size // int(options.shard_mb * 2**20))
    return max(min(wanted, kept), 1)


def lengths(kept: int, num_shards: int) -> list[int]:
    """Samples of each shard, as `facts.by_shard` deals them out: they differ by one at most."""
    starts = [-(-shard * kept // num_shards) for shard in range(num_shards + 1)]
    return [stop - start for start, stop in zip(starts, starts[1:], strict=False)]


def check(path: str, file_format: str, fact_X: np.ndarray) -> None:
    """Raises `DataError` unless a file holds the records of these facts, in their order."""
    try:
        found = [zlib.crc32(record) for record in read(path, file_format)]
    except (tf.errors.OpError, OSError, RuntimeError) as error:
        raise DataError(f"{path} cannot be read back: {error}") from None
    if found != fact_X["crc"].tolist():
        raise DataError(
            f"{path} does not hold what was written to it: {len(found)} records, expected "
            f"{len(fact_X)}; delete it and start again"
        )


def _write_tfrecord(path: str, records: Iterable[bytes]) -> None:
    with tf.io.TFRecordWriter(path) as writer:
        for record in records:
            writer.write(record)


def _read_tfrecord(path: str) -> Iterator[bytes]:
    return tf.data.TFRecordDataset(path).as_numpy_iterator()


def _write_array_record(path: str, records: Iterable[bytes]) -> None:
    with _local(path) as name:
        writer = array_record_module.ArrayRecordWriter(name, "group_size:1")
        for record in records:
            writer.write(record)
        writer.close()
        if name != path:
            tf.io.gfile.copy(name, path)


def _read_array_record(path: str) -> Iterator[bytes]:
    with _local(path) as name:
        if name != path:
            tf.io.gfile.copy(path, name, overwrite=True)
        reader = array_record_module.ArrayRecordReader(name)
        yield from reader.read_all()
        reader.close()


@contextlib.contextmanager
def _local(path: str) -> Iterator[str]:
    """A name that ArrayRecord can open, which knows this machine's files alone."""
    if files.is_local(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        yield os.path.join(folder, "records")


WRITERS = {"tfrecord": _write_tfrecord, "array_record": _write_array_record}
READERS = {"tfrecord": _read_tfrecord, "array_record": _read_array_record}

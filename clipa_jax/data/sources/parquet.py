"""Parquet files with pictures inside: img2dataset's, and those of Hugging Face datasets."""

import functools
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf
from absl import logging
from pyarrow import parquet

from clipa_jax.data.sources import base, fields, files, index
from clipa_jax.errors import DataError


class ParquetSource(fields.FieldSource):
    """Parquet files with a column of pictures (bytes, or a struct of bytes and path) and one of
    captions (text, or lists of it).

    A row group is read whole, so it should not be much larger than some hundred samples.

    Args:
      where: patterns, e.g. "/data/train-*.parquet".
      split: not used; the files are the split.
      wanted: columns that records are to have.

    Raises:
      DataError: no files match, a file that cannot be read, or no pictures.
    """

    def __init__(self, where: str, split: str, wanted: Sequence[str] = ()):
        self.spec, self.split = f"parquet:{where}", split
        paths = files.expand(where, self.spec)
        scans = index.build(paths, _scan, tables=False)
        self.shards = tuple(base.Shard(p, s.length) for p, s in zip(paths, scans, strict=True))
        first = next((shard.path for shard in self.shards if shard.length), None)
        if first is None:
            raise base.empty(self.spec, split)
        schema = _metadata(first).schema.to_arrow_schema()
        pictures = [field.name for field in schema if _is_picture(field.type)]
        self._image = base.find("image", base.IMAGE_NAMES, pictures, f"{self.spec} ({first})")
        texts = [field.name for field in schema if _is_text(field.type)]
        self._captions = base.find_optional(base.CAPTION_NAMES, texts)
        self._id = base.find_optional(base.ID_NAMES, schema.names)
        self.has_captions = self._captions is not None
        others = {
            f.name: _kind(f.type) for f in schema if f.name not in (self._image, self._captions)
        }
        super().__init__(wanted, {name: kind for name, kind in others.items() if kind})

    def read(self, shard: tf.Tensor, start: tf.Tensor, length: tf.Tensor) -> tf.data.Dataset:
        parts = tf.numpy_function(self._parts, [shard, start, length], tf.int64, stateful=False)

        def load(part_3: tf.Tensor) -> tf.Tensor:
            return fields.strings(self._load, [shard, part_3], self.width)

        parts = tf.data.Dataset.from_tensor_slices(tf.ensure_shape(parts, [None, 3]))
        return parts.map(load).prefetch(1).unbatch()

    @property
    def can_fetch(self) -> bool:
        return False

    def rows(self, shard: int, indices: np.ndarray) -> Iterable[list[bytes]]:
        raise NotImplementedError("parquet files are read by row groups")

    def _parts(self, shard: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
        """The row groups that hold rows [start, start + length) of a shard: int64 (groups, 3), each
        its number and the rows [begin, end) of it."""
        meta = _metadata(self.shards[int(shard)].path)
        size_G = np.array(
            [meta.row_group(g).num_rows for g in range(meta.num_row_groups)], np.int64
        )
        first_G = np.cumsum(size_G) - size_G
        begin_G = np.clip(start - first_G, 0, size_G)
        end_G = np.clip(start + length - first_G, 0, size_G)
        found = np.stack([np.arange(len(size_G)), begin_G, end_G], 1).astype(np.int64)
        return found[end_G > begin_G]

    def _load(self, shard: np.ndarray, part_3: np.ndarray) -> np.ndarray:
        path, (group, begin, end) = self.shards[int(shard)].path, part_3.tolist()
        record_XF = np.full((end - begin, self.width), b"", object)
        columns = {c for c in (self._image, self._captions, self._id, *self._wanted) if c}
        try:
            with files.open(path) as file:
                reader = parquet.ParquetFile(file, metadata=_metadata(path))
                rows = reader.read_row_group(group, columns=sorted(columns))
        except (*files.ERRORS, pa.ArrowException) as error:
            logging.warning("%s, row group %d: %s", path, group, error)
            return record_XF
        rows = rows.slice(begin, end - begin)

        def column(name: str | None) -> list:
            return rows.column(name).to_pylist() if name else [b""] * len(rows)

        record_XF[:, 0] = [_picture(value, path) for value in column(self._image)]
        record_XF[:, 1] = [fields.captions(value) for value in column(self._captions)]
        record_XF[:, 2] = [fields.as_bytes(value) for value in column(self._id)]
        for place, name in enumerate(self._wanted, 3):
            record_XF[:, place] = [fields.as_bytes(value) for value in column(name)]
        return record_XF


def _scan(path: str) -> index.Scan:
    return index.Scan(_metadata(path).num_rows)


@functools.lru_cache(maxsize=256)
def _metadata(path: str) -> parquet.FileMetaData:
    try:
        with files.open(path) as file:
            return parquet.ParquetFile(file).metadata
    except (pa.ArrowException, *files.ERRORS) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def _picture(value: Any, table: str) -> bytes:
    """The bytes of a picture, or of the file that a struct names, from the table's folder on."""
    if not isinstance(value, dict):
        return fields.as_bytes(value)
    if value.get("bytes") or not value.get("path"):
        return value.get("bytes") or b""
    try:
        return files.read(files.join(os.path.dirname(table), value["path"]))
    except files.ERRORS:
        return b""


def _is_picture(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(kind.field(n).name == "bytes" for n in range(kind.num_fields))
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return any(is_kind(kind) for is_kind in (pa.types.is_string, pa.types.is_large_string))


def _kind(kind: pa.DataType) -> type | None:
    if pa.types.is_integer(kind):
        return int
    if pa.types.is_floating(kind):
        return float
    return str if _is_text(kind) and not pa.types.is_list(kind) else None

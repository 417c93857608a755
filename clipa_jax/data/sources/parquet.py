"""Parquet files with pictures inside: img2dataset's, and those of Hugging Face datasets."""

import collections
import functools
import io
import os
import struct
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import tensorflow as tf
from absl import logging
from pyarrow import parquet

from clipa_jax.data.sources import base, captions, fields, index
from clipa_jax.errors import DataError
from clipa_jax.runtime import storage

_LISTS = (
    pa.ListType,
    pa.LargeListType,
    pa.FixedSizeListType,
    pa.ListViewType,
    pa.LargeListViewType,
)
_TAIL = 8  # bytes at the end of a file: the length of the metadata before them, and PAR1


class _Columns(NamedTuple):
    """The columns of a file that a record is made of."""

    image: str
    captions: tuple[str, ...]
    id: str | None


class ParquetSource(fields.FieldSource):
    """Parquet files with a column of pictures (bytes, or a struct of bytes and path) and one of
    captions (text, or lists of it).

    A row group is read whole, so it should not be much larger than some hundred samples. Files may
    name their columns differently. Features are further columns.
    """

    def __init__(self, where: str, split: str, wanted: Sequence[str], caption: captions.Choice):
        self.caption = caption
        self.spec, self.split = f"parquet:{where}", split
        self.shards, _ = index.shards(storage.expand(where, self.spec), _scan)
        columns = {path: self._columns(path) for path in base.spread(self.filled_files())}
        names = {name for known in columns.values() for name in known.captions}
        self.has_captions = caption.possible(names)
        kinds: dict[str, type] = {}
        for path, known in columns.items():
            for field in _schema(path):
                kind = _kind(field.type)
                if kind and field.name not in (known.image, *known.captions[:1]):
                    kinds.setdefault(field.name, kind)
        super().__init__(wanted, kinds)

    def _columns(self, path: str) -> _Columns:
        """The columns of a file; `DataError` if there are no pictures."""
        schema = _schema(path)
        twice = [name for name, count in collections.Counter(schema.names).items() if count > 1]
        if twice:
            raise DataError(f"{self.spec}: {path} has several columns {twice[0]!r}")
        types = {field.name: field.type for field in schema}
        pictures = [name for name, kind in types.items() if _is_picture(kind)]
        typed = (f"{name} ({kind})" for name, kind in types.items())
        where = f"{self.spec} ({path}, columns {', '.join(typed)})"
        image = base.find("image", base.IMAGE_NAMES, pictures, where)
        texts = tuple(n for n in self.caption.names if n in types and _is_text(types[n]))
        others = [n for n in self.caption.names if n in types and n not in texts]
        if others and not (texts and self.caption.is_usual):
            self.no_text = f"; no text is in {others[0]} ({types[others[0]]})"
        return _Columns(image, texts, base.find_optional(base.ID_NAMES, schema.names))

    def read(self, shard: tf.Tensor, start: tf.Tensor, length: tf.Tensor) -> tf.data.Dataset:
        parts = tf.numpy_function(self._parts, [shard, start, length], tf.int64, stateful=False)

        def load(part_3: tf.Tensor) -> tf.Tensor:
            return fields.strings(self._load, [shard, part_3], self.width)

        parts = tf.data.Dataset.from_tensor_slices(tf.ensure_shape(parts, [None, 3]))
        return parts.map(load).prefetch(1).unbatch()

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
        part_G3 = np.stack([np.arange(len(size_G)), begin_G, end_G], 1).astype(np.int64)
        return part_G3[end_G > begin_G]

    def _load(self, shard: np.ndarray, part_3: np.ndarray) -> np.ndarray:
        path, (group, begin, end) = self.shards[int(shard)].path, part_3.tolist()
        first = sum(_metadata(path).row_group(number).num_rows for number in range(group))
        index_X = np.arange(first + begin, first + end)
        try:
            columns = self._columns(path)
            used = {columns.image, *columns.captions, columns.id, *self._wanted}
            names = [name for name in _schema(path).names if name in used]
            with storage.open(path) as file:
                reader = parquet.ParquetFile(file, metadata=_metadata(path))
                table = reader.read_row_group(group, columns=names)
        except (OSError, pa.ArrowException, DataError) as error:
            logging.warning("%s, row group %d: %s", path, group, error)
            return np.full((end - begin, self.width), b"", object)
        rows = ((path, columns, table, row) for row in range(begin, end))
        return self.records(int(shard), index_X, rows)

    def record(self, item: tuple[str, _Columns, pa.Table, int]) -> list[bytes]:
        path, columns, table, row = item

        def value(name: str | None) -> Any:
            return _value(table.column(name)[row]) if name in table.column_names else None

        texts = self.caption.record({name: value(name) for name in columns.captions})
        rest = (captions.encoded(value(name)) for name in (columns.id, *self._wanted))
        return [_picture(value(columns.image), path), texts, *rest]


def _scan(path: str) -> index.Scan:
    return index.Scan(_metadata(path).num_rows)


@functools.lru_cache(maxsize=256)
def _metadata(path: str) -> parquet.FileMetaData:
    try:
        with storage.open(path) as file:
            meta = parquet.ParquetFile(file).metadata
            return _without_arrow_schema(file) if _has_fixed_lists(meta) else meta
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def _has_fixed_lists(meta: parquet.FileMetaData) -> bool:
    return any("fixed_size_list" in str(field.type) for field in meta.schema.to_arrow_schema())


def _without_arrow_schema(file: BinaryIO) -> parquet.FileMetaData:
    """The metadata of a file with the types of Parquet alone, whose lists have any size.

    Arrow's own types, which are stored beside them, have lists of a fixed size, of which Arrow
    cannot read a row group that has missing ones.
    """
    file.seek(-_TAIL, os.SEEK_END)
    (size,) = struct.unpack("<I", file.read(4))
    file.seek(-_TAIL - size, os.SEEK_END)
    footer = file.read(size + _TAIL).replace(b"ARROW:schema", b"ARROW:unread")
    return parquet.read_metadata(io.BytesIO(b"PAR1" + footer))


def _schema(path: str) -> pa.Schema:
    return _metadata(path).schema.to_arrow_schema()


def _value(scalar: pa.Scalar) -> Any:
    """A value in Python; text as bytes, since it need not be valid."""
    if not scalar.is_valid:
        return None
    if isinstance(scalar, pa.DictionaryScalar):
        return _value(scalar.value)
    if isinstance(scalar, pa.StructScalar):
        return {name: _value(member) for name, member in scalar.items()}
    if hasattr(scalar, "as_buffer"):
        return scalar.as_buffer().to_pybytes()
    if hasattr(scalar, "values") and not pa.types.is_integer(scalar.type.value_type):
        return [_value(member) for member in scalar.values]
    return scalar.as_py()


def _picture(value: Any, table: str) -> bytes:
    """The bytes of a picture, or of the file that a struct names, from the table's folder on."""
    if isinstance(value, dict):
        path = captions.encoded(value.get("path")).decode("utf-8", "surrogateescape")
        if value.get("bytes") or not path:
            return value.get("bytes") or b""
        return storage.read_or_nothing(storage.join(os.path.dirname(table), path))
    return bytes(value or b"")


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type of the values, whether they are in a dictionary or not."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _item(kind: pa.DataType) -> pa.DataType | None:
    """The type of the items of a list; None for other types."""
    is_list = isinstance(kind, _LISTS)
    return _plain(kind.value_type) if is_list else None


def _is_bytes(kind: pa.DataType) -> bool:
    kinds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(is_kind(kind) for is_kind in (*kinds, pa.types.is_binary_view))


def _is_string(kind: pa.DataType) -> bool:
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(is_kind(kind) for is_kind in kinds)


def _is_picture(kind: pa.DataType) -> bool:
    kind = _plain(kind)
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" for field in kind)
    return _is_bytes(kind) or _item(kind) == pa.uint8()


def _is_text(kind: pa.DataType) -> bool:
    """Whether values may be captions; see `captions.texts`."""
    kind = _item(_plain(kind)) or _plain(kind)
    return _is_string(kind) or _is_bytes(kind) or pa.types.is_struct(kind)


def _kind(kind: pa.DataType) -> type | None:
    kind = _plain(kind)
    if pa.types.is_integer(kind):
        return int
    if pa.types.is_floating(kind):
        return float
    return str if _is_string(kind) else None

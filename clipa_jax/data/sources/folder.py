"""Pictures as files: with captions beside them, or in a table."""

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from clipa_jax.data.sources import base, fields, files
from clipa_jax.errors import DataError, MissingData

TABLES = (".csv", ".tsv", ".jsonl")
_OWN_TABLES = ("metadata.jsonl", "metadata.csv", "captions.jsonl", "captions.csv", "captions.tsv")
_PATHS = ("file_name", "filepath", "filename", "image", "image_path", "path", "file")
_TEXTS = (".txt", ".caption", ".json")
_LOOKED_AT = 1000  # rows that tell what a column holds


class FolderSource(fields.FieldSource):
    """A folder of pictures, below it too, or a table of them.

    Beside `a.jpg` the captions are in `a.txt`, `a.caption` or `a.json`. A table is a CSV, TSV or
    JSONL file with a column of paths, from the table's folder on, and one of captions; one
    called `metadata.csv`, `metadata.jsonl`, `captions.csv` or the like is found in the folder.
    The order is that of the paths, or of the table.

    Args:
      where: the folder or the table.
      split: not used.
      wanted: columns that records are to have.

    Raises:
      DataError: nothing there, no pictures in it, or a table without paths.
    """

    random_access = True

    def __init__(self, where: str, split: str, wanted: Sequence[str] = ()):
        self.spec, self.split = f"folder:{where}", split
        if not files.exists(where):
            sentence = f"{self.spec}: no such folder or file"
            raise MissingData(sentence, dataset=self.spec, looked=where)
        own = [files.join(where, name) for name in _OWN_TABLES]
        table = where if where.endswith(TABLES) else next(filter(files.exists, own), None)
        self._rows: list[dict[str, Any]] = []
        self._text: str | None = None
        if table:
            self._folder = os.path.dirname(table)
            self._read_table(table)
        else:
            self._folder = where
            self._look_beside()
        if not self._names:
            raise base.empty(self.spec, split)
        self.shards = (base.Shard.of_names(where, self._names),)
        others = [n for n in (self._rows[0] if table else {}) if n not in (self._path, self._text)]
        kinds = {n: fields.kind_of(row.get(n) for row in self._rows[:_LOOKED_AT]) for n in others}
        super().__init__(wanted, kinds)

    def describe(self, shard: int, index: int) -> str:
        del shard
        return f"{files.join(self._folder, self._names[index])} (sample {index})"

    def rows(self, shard: int, indices: np.ndarray) -> Iterable[list[bytes]]:
        del shard
        for index in indices.tolist():
            name = self._names[index]
            yield [
                self._bytes(name),
                self._captions(index),
                fields.as_bytes(name),
                *(fields.as_bytes(self._rows[index].get(wanted)) for wanted in self._wanted),
            ]

    def _bytes(self, name: str) -> bytes:
        return files.read_or_nothing(files.join(self._folder, name))

    def _captions(self, index: int) -> bytes:
        if self._rows:
            return fields.captions(self._rows[index].get(self._text)) if self._text else b""
        suffix = self._beside[index]
        if not suffix:
            return b""
        text = self._bytes(os.path.splitext(self._names[index])[0] + suffix)
        return fields.captions_of_json(text) if suffix == ".json" else fields.captions(text)

    def _look_beside(self) -> None:
        there = files.walk(self._folder)
        self._path = ""
        self._names = [n for n in there if n.lower().endswith(tuple(base.IMAGE_SUFFIXES))]
        found = set(there)
        self._beside = [
            next((s for s in _TEXTS if os.path.splitext(name)[0] + s in found), "")
            for name in self._names
        ]
        self.has_captions = any(self._beside)

    def _read_table(self, table: str) -> None:
        text = files.read(table).decode("utf-8-sig", "surrogateescape")
        rows = _jsonl(text) if table.endswith(".jsonl") else _csv(text)
        try:
            self._rows = list(rows)
        except ValueError as error:
            raise DataError(f"{self.spec}: {table}: {error}") from None
        columns = list(self._rows[0]) if self._rows else []
        self._path = base.find("path", _PATHS, columns, self.spec) if self._rows else ""
        self._text = base.find_optional(base.CAPTION_NAMES, columns)
        self.has_captions = self._text is not None
        self._names = [str(row.get(self._path) or "") for row in self._rows]


def _csv(text: str) -> Iterable[dict[str, Any]]:
    """Rows of a table with a heading, whose columns are parted by tabs or commas."""
    heading = text.partition("\n")[0]
    reader = csv.DictReader(
        io.StringIO(text, newline=""), delimiter="\t" if "\t" in heading else ","
    )
    try:
        yield from reader
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from None


def _jsonl(text: str) -> Iterable[dict[str, Any]]:
    load: Callable[[str], Any] = json.loads
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = load(line)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        if not isinstance(row, dict):
            raise ValueError(f"line {number}: expected an object, came {type(row).__name__}")
        yield row

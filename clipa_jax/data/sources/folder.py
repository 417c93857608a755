"""Pictures as files: with captions beside them, or in a table."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from clipa_jax.data.sources import base, captions, fields, listing, row_files
from clipa_jax.data.sources.index import refuse_compressed
from clipa_jax.errors import DataError, MissingData
from clipa_jax.runtime import storage

_OWN_TABLES = ("metadata.jsonl", "metadata.csv", "captions.jsonl", "captions.csv", "captions.tsv")
_PATHS = ("file_name", "filepath", "filename", "image", "image_path", "path", "file")
_TEXTS = ("txt", "caption", captions.JSON)
_LOOKED_AT = 1000  # rows that tell which kind of value a column holds


class FolderSource(fields.ListedSource):
    """A folder of pictures, below it too, or a table of them.

    Beside `a.jpg` the captions are in `a.txt`, `a.caption` or `a.json`. A table has a column of
    paths, relative to its folder, and one of captions; one that is called `metadata.csv`,
    `metadata.jsonl`, `captions.csv` or the like is found in the folder. The order is that of the
    paths, or of the table.
    """

    def __init__(self, where: str, split: str, wanted: Sequence[str], caption: captions.Choice):
        self.caption = caption
        self.spec, self.split = f"folder:{where}", split
        if not storage.exists(where):
            sentence = f"{self.spec}: no such folder or file"
            raise MissingData(sentence, dataset=self.spec, looked=where)
        own = [storage.join(where, name) for name in _OWN_TABLES]
        is_table = where.lower().endswith(row_files.SUFFIXES)
        table = where if is_table else next(filter(storage.exists, own), None)
        if not table and not storage.is_folder(where):
            refuse_compressed(where)
            legal = ", ".join(row_files.SUFFIXES)
            raise DataError(f"{self.spec}: a file, but no table; expected a folder or {legal}")
        self._rows: list[row_files.Row] = []
        self._beside: list[list[str]] = []
        kinds: dict[str, type] = {}
        if table:
            names, kinds = self._read_table(table)
        else:
            names = self._look_beside(where)
        super().__init__(where, os.path.dirname(table) if table else where, names, wanted, kinds)

    def values(self, index: int) -> Mapping[str, Any]:
        return self._rows[index] if self._rows else {}

    def texts(self, index: int) -> bytes:
        if self._rows:
            return self.caption.record(self._rows[index])
        stem, names = os.path.splitext(self.path(index))[0], self._beside[index]
        return captions.of_files(
            {name: storage.read_or_nothing(f"{stem}.{name}") for name in names}, self.caption
        )

    def _look_beside(self, folder: str) -> list[str]:
        """The names of the pictures in a folder; remembers which have captions beside them."""
        names = listing.visible(folder, self.spec)
        known = set(names)
        pictures = listing.pictures(folder, names, self.spec)
        kinds = _TEXTS if self.caption.is_usual else (*self.caption.names, captions.JSON)
        for name in pictures:
            stem = os.path.splitext(name)[0]
            self._beside.append([name for name in kinds if f"{stem}.{name}" in known])
        present = {name for names in self._beside for name in names}
        self.has_captions = captions.JSON in present or (
            bool(present) if self.caption.is_usual else self.caption.possible(present)
        )
        return pictures

    def _read_table(self, table: str) -> tuple[list[str], dict[str, type]]:
        """The names of the pictures in a table, and the kinds of its further columns."""
        self._rows = row_files.read(table)
        columns = list(dict.fromkeys(name for row in self._rows for name in row))
        path = base.find("path", _PATHS, columns, self.spec) if self._rows else ""
        text = base.find_optional(self.caption.names, columns)
        self.has_captions = self.caption.possible(columns)
        sample = self._rows[:_LOOKED_AT]
        others = [name for name in columns if name not in (path, text)]
        kinds = {name: fields.kind_of(row.get(name) for row in sample) for name in others}
        return [str(row.get(path) or "") for row in self._rows], kinds

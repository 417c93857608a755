"""Pictures as files: with captions beside them, or in a table."""

import os
from collections.abc import Sequence

from clipa_jax.data.sources import base, captions, fields, files, listing, tables
from clipa_jax.errors import MissingData

_OWN_TABLES = ("metadata.jsonl", "metadata.csv", "captions.jsonl", "captions.csv", "captions.tsv")
_PATHS = ("file_name", "filepath", "filename", "image", "image_path", "path", "file")
_TEXTS = (".txt", ".caption", ".json")
_LOOKED_AT = 1000  # rows that tell which kind of value a column holds


class FolderSource(fields.PictureFiles):
    """A folder of pictures, below it too, or a table of them.

    Beside `a.jpg` the captions are in `a.txt`, `a.caption` or `a.json`. A table has a column of
    paths, relative to its folder, and one of captions; one that is called `metadata.csv`,
    `metadata.jsonl`, `captions.csv` or the like is found in the folder. The order is that of the
    paths, or of the table.

    Args:
      where: the folder or the table.
      split: not used.
      wanted: columns that records are to have.

    Raises:
      DataError: nothing there, no pictures in it, or a table without paths.
    """

    def __init__(self, where: str, split: str, wanted: Sequence[str] = ()):
        self.spec, self.split = f"folder:{where}", split
        if not files.exists(where):
            sentence = f"{self.spec}: no such folder or file"
            raise MissingData(sentence, dataset=self.spec, looked=where)
        own = [files.join(where, name) for name in _OWN_TABLES]
        is_table = where.lower().endswith(tables.SUFFIXES)
        table = where if is_table else next(filter(files.exists, own), None)
        self._rows: list[tables.Row] = []
        self._beside: list[list[str]] = []
        kinds: dict[str, type] = {}
        if table:
            self._folder = os.path.dirname(table)
            kinds = self._read_table(table)
        else:
            self._folder = where
            self._look_beside()
        if not self._names:
            raise base.empty(self.spec, split)
        self.shards = (base.Shard.of_names(where, self._names),)
        super().__init__(wanted, kinds)

    def path(self, index: int) -> str:
        return files.join(self._folder, self._names[index])

    def record(self, shard: int, item: int) -> list[bytes]:
        row = self._rows[item] if self._rows else {}
        texts = captions.of_fields(row) if row else self._texts_beside(item)
        return [
            files.read_or_nothing(self.path(item)),
            captions.joined(texts),
            captions.encoded(self._names[item]),
            *(captions.encoded(row.get(name)) for name in self._wanted),
        ]

    def _texts_beside(self, index: int) -> list[bytes]:
        """The captions in the first file beside a picture that has any."""
        for suffix in self._beside[index]:
            text = files.read_or_nothing(os.path.splitext(self.path(index))[0] + suffix)
            texts = captions.of_json(text) if suffix == ".json" else captions.texts(text)
            if texts:
                return texts
        return []

    def _look_beside(self) -> None:
        names = listing.visible(self._folder, self.spec)
        known = set(names)
        self._names = listing.pictures(self._folder, names, self.spec)
        for name in self._names:
            stem = os.path.splitext(name)[0]
            self._beside.append([suffix for suffix in _TEXTS if stem + suffix in known])
        self.has_captions = any(self._beside)

    def _read_table(self, table: str) -> dict[str, type]:
        """Reads a table; the kinds of its further columns."""
        self._rows = tables.read(table)
        columns = list(dict.fromkeys(name for row in self._rows for name in row))
        path = base.find("path", _PATHS, columns, self.spec) if self._rows else ""
        text = base.find_optional(captions.NAMES, columns)
        self.has_captions = text is not None
        self._names = [str(row.get(path) or "") for row in self._rows]
        sample = self._rows[:_LOOKED_AT]
        others = [name for name in columns if name not in (path, text)]
        return {name: fields.kind_of(row.get(name) for row in sample) for name in others}

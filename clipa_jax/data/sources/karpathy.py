"""Captions with the splits of Karpathy and Li: `dataset_coco.json`, `dataset_flickr30k.json`.

The file is an object with a list `images`, each with `split`, `filename`, perhaps `filepath`, and
`sentences`, a list of objects with `raw`.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from clipa_jax.data.sources import base, fields, files
from clipa_jax.errors import DataError, MissingData, nearest


class KarpathySource(fields.FieldSource):
    """The pictures of a split, each with all of its captions, in the order of the file.

    Args:
      where: "FILE.json" or "FILE.json,FOLDER" with the pictures' folder. Without it they are
        looked for beside the file: `filepath/filename`, `filename`, `images/filename`.
      split: e.g. "test".
      wanted: not used, there are no further features.

    Raises:
      DataError: a file of another form, or no such split.
      MissingData: no such file, or no pictures where they were looked for.
    """

    random_access = True

    def __init__(self, where: str, split: str, wanted: Sequence[str] = ()):
        self.spec, self.split = f"karpathy:{where}", split
        table, _, folder = where.partition(",")
        if not files.exists(table):
            raise MissingData(f"{self.spec}: no file {table}", dataset=self.spec, looked=table)
        self._pictures = self._of_split(table)
        self._pattern, self._full = self._find(folder or table.rpartition("/")[0] or ".")
        names = [_name(picture) for picture in self._pictures]
        self.shards = (base.Shard.of_names(table, names),)
        self.has_captions = True
        super().__init__(wanted, {})

    def describe(self, shard: int, index: int) -> str:
        del shard
        return f"{_path(self._pattern, self._full, self._pictures[index])} (sample {index})"

    def rows(self, shard: int, indices: np.ndarray) -> Iterable[list[bytes]]:
        del shard
        for index in indices.tolist():
            picture = self._pictures[index]
            captions = [sentence["raw"] for sentence in picture["sentences"]]
            image = files.read_or_nothing(_path(self._pattern, self._full, picture))
            yield [image, fields.captions(captions), fields.as_bytes(_name(picture))]

    def _of_split(self, table: str) -> list[dict[str, Any]]:
        try:
            pictures = json.loads(files.read(table))["images"]
            splits = {picture["split"] for picture in pictures}
            found = [picture for picture in pictures if picture["split"] == self.split]
            for picture in found:
                _ = picture["filename"], [sentence["raw"] for sentence in picture["sentences"]]
        except (*files.ERRORS, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{self.spec}: {table} is no list of `images` with `split`, `filename` and "
                f"`sentences`: {type(error).__name__} {error}"
            ) from None
        if not found:
            raise DataError(f"{self.spec}: no split {self.split!r}; {nearest(self.split, splits)}")
        return found

    def _find(self, folder: str) -> tuple[str, bool]:
        """How to get from a picture to its path, told by where the first one is: a pattern, and
        whether its `filepath` belongs in it."""
        first, looked = self._pictures[0], []
        for full in (True, False):
            for inner in ("", "images/"):
                pattern = f"{folder}/{inner}" + "{}"
                looked.append(_path(pattern, full, first))
                if files.exists(looked[-1]):
                    return pattern, full
        tried = list(dict.fromkeys(looked))
        raise MissingData(
            f"{self.spec}: the first picture is not at {', '.join(tried)}; give the folder as "
            f"karpathy:FILE.json,FOLDER",
            dataset=self.spec,
            looked=tried[0],
        )


def _path(pattern: str, full: bool, picture: dict[str, Any]) -> str:
    return pattern.replace("{}", _name(picture) if full else picture["filename"])


def _name(picture: dict[str, Any]) -> str:
    """`val2014/COCO_val2014_000000391895.jpg`, or the file's name alone."""
    folder = picture.get("filepath", "")
    return f"{folder}/{picture['filename']}" if folder else picture["filename"]

"""Captions with the splits of Karpathy and Li: `dataset_coco.json`, `dataset_flickr30k.json`.

The file is an object with a list `images`, each with `split`, `filename`, perhaps `filepath`, and
`sentences`, a list of objects with `raw`.
"""

import json
from collections.abc import Sequence
from typing import Any

from clipa_jax.data.sources import base, captions, fields, files
from clipa_jax.errors import DataError, MissingData, nearest


class KarpathySource(fields.PictureFiles):
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

    has_captions = True

    def __init__(self, where: str, split: str, wanted: Sequence[str] = ()):
        self.spec, self.split = f"karpathy:{where}", split
        table, _, folder = where.partition(",")
        if not files.exists(table):
            raise MissingData(f"{self.spec}: no file {table}", dataset=self.spec, looked=table)
        self._pictures = self._of_split(table)
        self._pattern, self._full = self._find(folder or table.rpartition("/")[0] or ".")
        names = [_name(picture) for picture in self._pictures]
        self.shards = (base.Shard.of_names(table, names),)
        super().__init__(wanted, {})

    def path(self, index: int) -> str:
        return _path(self._pattern, self._full, self._pictures[index])

    def record(self, shard: int, item: int) -> list[bytes]:
        picture = self._pictures[item]
        texts = captions.texts([sentence["raw"] for sentence in picture["sentences"]])
        name = captions.encoded(_name(picture))
        return [files.read_or_nothing(self.path(item)), captions.joined(texts), name]

    def _of_split(self, table: str) -> list[dict[str, Any]]:
        try:
            pictures = json.loads(files.read(table))["images"]
            splits = {picture["split"] for picture in pictures}
            chosen = [picture for picture in pictures if picture["split"] == self.split]
            for picture in chosen:
                _ = picture["filename"], [sentence["raw"] for sentence in picture["sentences"]]
        except (*files.ERRORS, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{self.spec}: {table} is no list of `images` with `split`, `filename` and "
                f"`sentences`: {type(error).__name__} {error}"
            ) from None
        if not chosen:
            raise DataError(f"{self.spec}: no split {self.split!r}; {nearest(self.split, splits)}")
        return chosen

    def _find(self, folder: str) -> tuple[str, bool]:
        """Where pictures are, from the place of the first one: a pattern of paths, and whether
        `filepath` is part of it."""
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
    return pattern.replace("{}", _name(picture) if full else str(picture["filename"]))


def _name(picture: dict[str, Any]) -> str:
    """`val2014/COCO_val2014_000000391895.jpg`, or the file's name alone."""
    folder = picture.get("filepath", "")
    return f"{folder}/{picture['filename']}" if folder else str(picture["filename"])

"""Captions with the splits of Karpathy and Li: `dataset_coco.json`, `dataset_flickr30k.json`.

The file is an object with a list `images`, each with `split`, `filename`, perhaps `filepath`, and
`sentences`, a list of objects with `raw`.
"""

import itertools
import json
import os
from collections.abc import Sequence
from typing import Any

from clipa_jax.data.sources import captions, fields
from clipa_jax.errors import DataError, MissingData, nearest
from clipa_jax.runtime import storage


class KarpathySource(fields.ListedSource):
    """The pictures of a split, each with all of its captions, in the order of the file.

    `where` is "FILE.json" or "FILE.json,FOLDER" with the pictures' folder. Without it they are
    looked for beside the file: `filepath/filename`, `filename`, `images/filename`.
    """

    def __init__(self, where: str, split: str, wanted: Sequence[str], caption: captions.Choice):
        self.caption = caption
        self.spec, self.split = f"karpathy:{where}", split
        table, _, folder = where.partition(",")
        if not storage.exists(table):
            raise MissingData(f"{self.spec}: no file {table}", dataset=self.spec, looked=table)
        pictures = self._of_split(table)
        self._texts = [[sentence["raw"] for sentence in p["sentences"]] for p in pictures]
        self.has_captions = caption.is_usual or caption.names == ("raw",)
        names = [os.path.join(p.get("filepath", ""), str(p["filename"])) for p in pictures]
        bare = [str(p["filename"]) for p in pictures]
        self._paths = self._find(folder or table.rpartition("/")[0] or ".", names, bare)
        super().__init__(table, folder, names, wanted, {})

    def path(self, index: int) -> str:
        return self._paths[index]

    def texts(self, index: int) -> bytes:
        return captions.joined(captions.texts(self._texts[index]))

    def _of_split(self, table: str) -> list[dict[str, Any]]:
        try:
            pictures = json.loads(storage.read(table))["images"]
            splits = {picture["split"] for picture in pictures}
            chosen = [picture for picture in pictures if picture["split"] == self.split]
            for picture in chosen:
                _ = picture["filename"], [sentence["raw"] for sentence in picture["sentences"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{self.spec}: {table} is no list of `images` with `split`, `filename` and "
                f"`sentences`: {type(error).__name__} {error}"
            ) from None
        if not chosen:
            raise DataError(f"{self.spec}: no split {self.split!r}; {nearest(self.split, splits)}")
        return chosen

    def _find(self, folder: str, names: list[str], bare: list[str]) -> list[str]:
        """The paths of the pictures, by the place of the first one."""
        tried = []
        for part, inner in itertools.product((names, bare), ("", "images/")):
            paths = [f"{folder}/{inner}{name}" for name in part]
            if storage.exists(paths[0]):
                return paths
            tried.append(paths[0])
        raise MissingData(
            f"{self.spec}: the first picture is not at {', '.join(dict.fromkeys(tried))}; give the "
            f"folder as karpathy:FILE.json,FOLDER",
            dataset=self.spec,
            looked=tried[0],
        )

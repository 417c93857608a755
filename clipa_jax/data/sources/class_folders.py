"""A folder for each class, as `torchvision.datasets.ImageFolder` has them."""

from collections.abc import Iterable, Sequence

import numpy as np

from clipa_jax.data.sources import base, fields, files
from clipa_jax.errors import DataError, MissingData

LABEL = "label"
WHOLE = "all"


class ClassFoldersSource(fields.FieldSource):
    """Pictures in DIR/SPLIT/CLASS/, at any depth below; labels count the folders by their names.

    Args:
      where: DIR.
      split: a folder in it; "all" for DIR/CLASS/ without splits.
      wanted: features that records are to have: "label".

    Raises:
      DataError: no pictures, or one outside the folders.
      MissingData: no such folder.
    """

    random_access = True

    def __init__(self, where: str, split: str, wanted: Sequence[str] = ()):
        self.spec, self.split = f"class_folders:{where}", split
        self._folder = where if split == WHOLE else files.join(where, split)
        if not files.exists(self._folder):
            hint = f'; a tree without splits is read with split="{WHOLE}"' if split != WHOLE else ""
            raise MissingData(
                f"{self.spec}: no folder {self._folder}{hint}",
                dataset=self.spec,
                looked=self._folder,
            )
        there = files.walk(self._folder)
        self._names = [n for n in there if n.lower().endswith(tuple(base.IMAGE_SUFFIXES))]
        if not self._names:
            raise base.empty(self.spec, split)
        folders = [name.partition("/")[0] if "/" in name else "" for name in self._names]
        if "" in folders:
            stray = self._names[folders.index("")]
            raise DataError(f"{self.spec}: {files.join(self._folder, stray)} is in no class folder")
        self._classes = sorted(set(folders))
        number = {name: index for index, name in enumerate(self._classes)}
        self._labels = [number[folder] for folder in folders]
        self.shards = (base.Shard.of_names(self._folder, self._names),)
        self.has_captions = False
        super().__init__(wanted, {LABEL: int})

    def class_names(self, label: str) -> list[str] | None:
        return self._classes if label == LABEL else None

    def describe(self, shard: int, index: int) -> str:
        del shard
        return f"{files.join(self._folder, self._names[index])} (sample {index})"

    def rows(self, shard: int, indices: np.ndarray) -> Iterable[list[bytes]]:
        del shard
        for index in indices.tolist():
            name, label = self._names[index], self._labels[index]
            image = files.read_or_nothing(files.join(self._folder, name))
            yield [image, b"", fields.as_bytes(name), *(b"%d" % label for _ in self._wanted)]

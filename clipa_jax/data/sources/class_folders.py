"""A folder for each class, as `torchvision.datasets.ImageFolder` has them."""

from collections.abc import Sequence

from absl import logging

from clipa_jax.data.sources import base, captions, fields, files, listing
from clipa_jax.errors import DataError, MissingData

LABEL = "label"
WHOLE = "all"
# Captions for training, from the name of the class; a file of this name in DIR replaces them.
TEMPLATES_FILE = "templates.txt"
TEMPLATES = ("a photo of a {}.", "a picture of a {}.", "{}")


class ClassFoldersSource(fields.PictureFiles):
    """Pictures in DIR/SPLIT/CLASS/, at any depth below; labels count the folders by their names.

    A picture has a caption for each template, filled with the name of its class.

    Args:
      where: DIR.
      split: a folder in it; "all" for DIR/CLASS/ without splits.
      wanted: features that records are to have: "label".

    Raises:
      DataError: no pictures, or one outside the folders.
      MissingData: no such folder.
    """

    has_captions = True

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
        names = listing.visible(self._folder, self.spec)
        self._names = listing.pictures(self._folder, names, self.spec)
        if not self._names:
            raise base.empty(self.spec, split)
        stray = next((name for name in self._names if "/" not in name), None)
        if stray:
            raise DataError(f"{self.spec}: {files.join(self._folder, stray)} is in no class folder")
        folders = [name.partition("/")[0] for name in self._names]
        self._classes = sorted({*folders, *self._subfolders()})
        self._warn_of_empty(set(self._classes) - set(folders))
        number = {name: index for index, name in enumerate(self._classes)}
        self._labels = [number[folder] for folder in folders]
        self._captions = [captions.joined(texts) for texts in self._texts(where)]
        self.shards = (base.Shard.of_names(self._folder, self._names),)
        super().__init__(wanted, {LABEL: int})

    def class_names(self, label: str) -> list[str] | None:
        return self._classes if label == LABEL else None

    def path(self, index: int) -> str:
        return files.join(self._folder, self._names[index])

    def record(self, shard: int, item: int) -> list[bytes]:
        label = self._labels[item]
        image = files.read_or_nothing(self.path(item))
        name = captions.encoded(self._names[item])
        return [image, self._captions[label], name, *(b"%d" % label for _ in self._wanted)]

    def _subfolders(self) -> list[str]:
        names = files.folders(self._folder)
        return [name for name in names if not listing.is_hidden(name)]

    def _warn_of_empty(self, classes: set[str]) -> None:
        if classes:
            names = ", ".join(sorted(classes)[:5])
            logging.warning("%s: %d classes have no pictures: %s", self.spec, len(classes), names)

    def _texts(self, where: str) -> list[list[bytes]]:
        """The captions of each class."""
        lines = files.read_or_nothing(files.join(where, TEMPLATES_FILE)).decode("utf-8", "replace")
        templates = [line.strip() for line in lines.splitlines() if line.strip()] or TEMPLATES
        names = [name.replace("_", " ") for name in self._classes]
        return [[captions.encoded(t.replace("{}", name)) for t in templates] for name in names]

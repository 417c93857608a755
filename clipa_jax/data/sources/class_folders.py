"""A folder for each class, as `torchvision.datasets.ImageFolder` has them."""

from collections.abc import Mapping, Sequence

from absl import logging

from clipa_jax.data.sources import captions, fields, listing
from clipa_jax.errors import DataError, MissingData
from clipa_jax.runtime import storage

LABEL = "label"
WHOLE = "all"
# Captions for training, from the name of the class; a file of this name in DIR replaces them.
TEMPLATES_FILE = "templates.txt"
TEMPLATES = ("a photo of a {}.", "a picture of a {}.", "{}")


class ClassFoldersSource(fields.ListedSource):
    """Pictures in DIR/SPLIT/CLASS/, at any depth below; labels count the folders by their names.

    A picture has a caption for each template, filled with the name of its class. The split "all"
    stands for DIR/CLASS/ without splits.
    """

    def __init__(self, where: str, split: str, wanted: Sequence[str], caption: captions.Choice):
        self.caption = caption
        self.spec, self.split = f"class_folders:{where}", split
        folder = where if split == WHOLE else storage.join(where, split)
        if not storage.exists(folder):
            hint = f'; a tree without splits is read with split="{WHOLE}"' if split != WHOLE else ""
            sentence = f"{self.spec}: no folder {folder}{hint}"
            raise MissingData(sentence, dataset=self.spec, looked=folder)
        names = listing.pictures(folder, listing.visible(folder, self.spec), self.spec)
        super().__init__(folder, folder, names, wanted, {LABEL: int})
        stray = next((name for name in names if "/" not in name), None)
        if stray:
            raise DataError(f"{self.spec}: {storage.join(folder, stray)} is in no class folder")
        folders = [name.partition("/")[0] for name in names]
        others = {n for n in storage.names(folder, folders=True) if not listing.is_hidden(n)}
        others -= set(folders)
        if others:
            first = ", ".join(sorted(others)[:5])
            logging.warning("%s: %d classes have no pictures: %s", self.spec, len(others), first)
        self._classes = sorted({*folders, *others})
        number = {name: index for index, name in enumerate(self._classes)}
        self._labels = [number[folder] for folder in folders]
        self._texts = self._filled_templates(where)
        self.has_captions = caption.is_usual

    def class_names(self, label: str) -> list[str] | None:
        return self._classes if label == LABEL else None

    def texts(self, index: int) -> bytes:
        return self._texts[self._labels[index]]

    def values(self, index: int) -> Mapping[str, int]:
        return {LABEL: self._labels[index]}

    def _filled_templates(self, where: str) -> list[bytes]:
        """The captions of each class."""
        text = storage.read_or_nothing(storage.join(where, TEMPLATES_FILE))
        lines = text.decode("utf-8", "replace").splitlines()
        templates = [line.strip() for line in lines if line.strip()] or TEMPLATES
        without = next((line for line in templates if "{}" not in line), None)
        if without is not None:
            raise DataError(
                f"{self.spec}: {TEMPLATES_FILE} has {without!r} without {{}} for the class's name"
            )
        names = [name.replace("_", " ") for name in self._classes]
        filled = ([captions.encoded(t.replace("{}", name)) for t in templates] for name in names)
        return [captions.joined(texts) for texts in filled]

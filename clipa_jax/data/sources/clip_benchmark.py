"""The webdatasets of CLIP_benchmark: a folder with a split's tars, its classes and its prompts.

    DIR/SPLIT/0.tar, 1.tar, ...           DIR/SPLIT/nshards.txt     how many there are
    DIR/classnames.txt                    one a line, in the order of the labels
    DIR/zeroshot_classification_templates.txt    one a line, with {c} for the class's name
    DIR/dataset_type.txt                  classification (if there is none), multilabel, retrieval

A sample is a picture and its label: `cls`, a number; `npy`, 0 or 1 for each class (multilabel); or
`txt`, one caption a line (retrieval). L labels of a picture.
"""

import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from clipa_jax.data.sources import captions
from clipa_jax.data.sources.webdataset import WebdatasetSource
from clipa_jax.errors import DataError, MissingData
from clipa_jax.runtime import storage

CLASSES, TEMPLATES = "classnames.txt", "zeroshot_classification_templates.txt"
SHARDS, TYPE = "nshards.txt", "dataset_type.txt"
RETRIEVAL, MULTILABEL, CLASSIFICATION = "retrieval", "multilabel", "classification"
LABEL, LABELS = "cls", "npy"
PLACE = "{c}"  # of the class's name, in their templates
_CAPTIONS, _FIRST_WANTED = 1, 3  # places in a record


class ClipBenchmarkSource(WebdatasetSource):
    """A folder of this layout, here or on a server; the feature of a class is "cls" or "npy"."""

    kind = "clip_benchmark"

    def __init__(self, where: str, split: str, wanted: Sequence[str], caption: captions.Choice):
        self._folder = where.rstrip("/")
        super().__init__(where, split, wanted, caption)
        self.type = _text(storage.join(self._folder, TYPE)).strip().lower() or CLASSIFICATION
        legal = (CLASSIFICATION, MULTILABEL, RETRIEVAL)
        if self.type not in legal:
            raise DataError(f"{self.spec}: {TYPE} says {self.type!r}; legal: {', '.join(legal)}")
        self._several = self._wanted.index(LABELS) if LABELS in self._wanted else None

    def class_names(self, label: str) -> list[str] | None:
        known = label in (LABEL, LABELS)
        return _lines(storage.join(self._folder, CLASSES)) or None if known else None

    def templates(self) -> list[str] | None:
        lines = _lines(storage.join(self._folder, TEMPLATES))
        return [line.replace(PLACE, "{}") for line in lines] or None

    def record(self, item: Any) -> list[bytes]:
        record = super().record(item)
        if self.type == RETRIEVAL:
            record[_CAPTIONS] = captions.joined(captions.texts(record[_CAPTIONS].splitlines()))
        if self._several is not None:
            place = _FIRST_WANTED + self._several
            present_C = np.load(io.BytesIO(record[place]), allow_pickle=False)
            record[place] = b" ".join(b"%d" % number for number in np.flatnonzero(present_C))
        return record

    def parse(self, record: tf.Tensor, features: Sequence[str] = ()) -> dict[str, Any]:
        sample = super().parse(record, features)
        if LABELS in sample:
            sample[LABELS] = tf.strings.to_number(tf.strings.split(sample[LABELS]), tf.int64)
        return sample

    def _files(self, where: str) -> list[storage.File]:
        folder = storage.join(self._folder, self.split)
        count = _text(storage.join(folder, SHARDS)).strip()
        if count and not count.isdigit():
            raise DataError(f"{self.spec}, split {self.split}: {SHARDS} says {count!r}, no number")
        if count:
            paths = [f"{folder}/{number}.tar" for number in range(int(count))]
            stamps = storage.present(paths)
        else:
            stamps = storage.glob(f"{folder}/*.tar")
            paths = sorted(stamps, key=_number)
        lacking = next((path for path in paths if path not in stamps), None)
        if lacking or not paths:
            looked = lacking or f"{folder}/*.tar"
            raise MissingData(
                f"{self.spec}, split {self.split}: no {looked}", dataset=self.spec, looked=looked
            )
        return [storage.File(path, stamps[path]) for path in paths]


def _text(path: str) -> str:
    """Of a small file; empty where there is none. Bytes that are not UTF-8 are Latin-1."""
    content = storage.read_or_nothing(path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _lines(path: str) -> list[str]:
    return [line.strip() for line in _text(path).splitlines() if line.strip()]


def _number(path: str) -> tuple[int, str]:
    digits = re.search(r"(\d+)\.tar$", path)
    return (int(digits[1]) if digits else 0, path)

"""Maps the labels of a dataset to the classes of a table.

A label is a number in the data. Where the data names its labels, the names are matched with the
table's keys (WordNet ids, folders) or names. L labels of the data, C classes, B rows of a batch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipa_jax.evaluators.class_names import Classes

OUTSIDE = -1  # the class of a label that is not in the table
ERROR, LEAVE_OUT = "error", "leave_out"  # treatments of a picture of no class


@dataclass(frozen=True)
class Labels:
    """Reader of the classes of pictures."""

    feature: str  # of the data, with one number a picture or a list of numbers
    class_L: np.ndarray  # of each label, from `fit`
    num_classes: int
    outside: str  # treatment of a picture without a class: "error" or "leave_out"
    error: Callable[[str], Exception]  # makes an error that names the evaluator and its data
    labels_of: Callable[[str], list[int]] | None = None  # of a picture, where the data has none

    def of(self, features: Mapping[str, list[Any]]) -> np.ndarray:
        """The classes of each picture, bool (B, C); none for one that is left out."""
        right_BC = np.zeros((len(features[self.feature]), self.num_classes), bool)
        right_BC[tuple(self.pairs(features).T)] = True
        return right_BC

    def pairs(self, features: Mapping[str, list[Any]]) -> np.ndarray:
        """The distinct rows (picture, class) of B pictures, int64 (P, 2), sorted.

        Raises `DataError` for a label that is not among the data's, or one of no class.
        """
        rows = features[self.feature]
        if self.labels_of is not None:
            try:
                rows = [self.labels_of(picture) for picture in rows]
            except KeyError as error:
                raise self.error(f"no labels are known for the picture {error}") from None
        rows = [row if isinstance(row, list) else [row] for row in rows]
        row_X = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        label_X = np.asarray([label for row in rows for label in row], np.int64)
        wrong = label_X[(label_X < 0) | (label_X >= len(self.class_L))]
        if len(wrong):
            raise self.error(
                f"{self.feature}={wrong[0]} has no class name; there are {len(self.class_L)} names"
            )
        class_X = self.class_L[label_X]
        inside_X = class_X != OUTSIDE
        if self.outside == ERROR and not np.all(inside_X):
            raise self.error(
                f"{self.feature}={label_X[~inside_X][0]} is none of the {self.num_classes} "
                f"classes; outside={LEAVE_OUT} leaves such pictures out"
            )
        return np.unique(np.stack([row_X, class_X], axis=1)[inside_X], axis=0)


def fit(classes: Classes, own: Sequence[str] | None) -> np.ndarray:
    """The class of each label, int64 (L,), `OUTSIDE` for none.

    `own` are the names of the data's labels, in order; None where it has none. A table that does
    not fit the data is a `ValueError`.
    """
    if own is None or list(own) == [str(number) for number in range(len(own))]:
        return _by_number(classes, None if own is None else len(own))
    if classes.keys:
        by_key = _by_name(classes.keys, own)
        if np.any(by_key != OUTSIDE):
            return by_key
    if all(name.isdecimal() for name in own):  # in the order of texts: 0, 1, 10, 100, 101, ...
        return _by_value(classes, [int(name) for name in own])
    names = [plain(name) for name in classes.names]
    by_name = _by_name(names, [plain(name) for name in own])
    known = by_name != OUTSIDE
    if np.all(known) and len(set(names)) == len(names) and len(set(by_name)) == len(own):
        return by_name
    # Other names for the same classes are common ("cannoli", "cannoli, a sweet"): labels are taken
    # in order if their number is right and no known name has another number.
    _by_number(classes, len(own))
    same = np.array([theirs == ours for theirs, ours in zip(map(plain, own), names, strict=True)])
    moved = np.flatnonzero(known & ~same & (by_name != np.arange(len(own))))
    if len(moved):
        label = int(moved[0])
        raise ValueError(
            f"label {label} is {own[label]!r} in the data and {classes.names[label]!r} in the "
            f"table, which has {own[label]!r} as number {int(by_name[label])}; give classes in the "
            f"order of the data"
        )
    return np.arange(len(own))


def plain(name: str) -> str:
    """A name in lower case, with underscores and hyphens as single spaces."""
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _by_name(names: Sequence[str], own: Sequence[str]) -> np.ndarray:
    number = {name: index for index, name in reversed(list(enumerate(names)))}
    return np.array([number.get(name, OUTSIDE) for name in own], np.int64)


def _by_value(classes: Classes, numbers: Sequence[int]) -> np.ndarray:
    """The class of labels whose names are numbers of classes."""
    count = len(classes.names)
    if max(numbers) >= count or len(set(numbers)) < len(numbers):
        raise ValueError(
            f"labels are named {min(numbers)} to {max(numbers)} in the data; for {count} class "
            f"names they must be different numbers from 0 to {count - 1}"
        )
    return np.array(numbers, np.int64)


def _by_number(classes: Classes, labels: int | None) -> np.ndarray:
    """The class of labels that are numbers of classes."""
    if labels is not None and labels != len(classes.names):
        raise ValueError(f"{len(classes.names)} class names for {labels} classes in the data")
    return np.arange(len(classes.names))

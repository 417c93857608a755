"""Which class of a table a data set's label means: a map that fits, or a sentence why none does.

A label is a number in the data. Where the data names its labels, their names decide: by the
table's keys (WordNet ids, folders), or by its names. L labels of the data, C classes.
"""

from collections.abc import Sequence

import numpy as np

from clipa_jax.evaluators.tables import Classes

OUTSIDE = -1  # a label that is none of the classes


def fit(classes: Classes, own: Sequence[str] | None) -> np.ndarray:
    """The class of each label, int64 (L,), `OUTSIDE` for none.

    Args:
      classes: the table.
      own: what the data calls its labels, in their order; None where it does not say, or where
        it only has their numbers for names.

    Raises:
      ValueError: the table does not fit the data; says where.
    """
    if own is None or list(own) == [str(number) for number in range(len(own))]:
        return _by_number(classes, None if own is None else len(own))
    if classes.keys:
        by_key = _by_name(classes.keys, own)
        if np.any(by_key != OUTSIDE):
            return by_key
    names = [plain(name) for name in classes.names]
    by_name = _by_name(names, [plain(name) for name in own])
    known = by_name != OUTSIDE
    if np.all(known) and len(set(names)) == len(names) and len(set(by_name)) == len(own):
        return by_name
    # Other names for the same classes are common ("cannoli", "cannoli, a sweet"), so the order
    # is trusted where the number is right and nothing speaks against it.
    _by_number(classes, len(own))
    same = np.array([theirs == ours for theirs, ours in zip(map(plain, own), names, strict=True)])
    moved = np.flatnonzero(known & ~same & (by_name != np.arange(len(own))))
    if len(moved):
        one = int(moved[0])
        raise ValueError(
            f"label {one} is {own[one]!r} in the data and {classes.names[one]!r} in the table, "
            f"which has {own[one]!r} as number {int(by_name[one])}; give classes in the order "
            f"of the data"
        )
    return np.arange(len(own))


def plain(name: str) -> str:
    """A name without what spellings differ in: case, underscores, hyphens, blanks."""
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _by_name(names: Sequence[str], own: Sequence[str]) -> np.ndarray:
    number = {name: index for index, name in reversed(list(enumerate(names)))}
    return np.array([number.get(name, OUTSIDE) for name in own], np.int64)


def _by_number(classes: Classes, labels: int | None) -> np.ndarray:
    """Labels are numbers of classes."""
    if labels is not None and labels != len(classes.names):
        raise ValueError(
            f"{len(classes.names)} class names, but the data has {labels} labels"
        )
    return np.arange(len(classes.names))

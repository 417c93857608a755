"""Iterators of tf.data that are closed before Python exits.

A dataset that calls Python prefetches in threads of its own. A thread that requests the
interpreter while it shuts down blocks forever, and its iterator with it. So all open iterators
are released when Python begins to exit.
"""

import atexit
import weakref
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

_open: "weakref.WeakSet[Feed]" = weakref.WeakSet()


class Feed(Iterator[Any]):
    """The elements of a dataset, as tensors."""

    def __init__(self, dataset: tf.data.Dataset):
        self._iterator: Iterator[Any] | None = iter(dataset)
        _open.add(self)

    def __next__(self) -> Any:
        if self._iterator is None:
            raise StopIteration
        return next(self._iterator)

    def close(self) -> None:
        """Releases the iterator and its threads."""
        self._iterator = None


@atexit.register
def _close_all() -> None:
    for feed in list(_open):
        feed.close()

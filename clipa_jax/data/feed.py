"""Iterators of tf.data that are gone before Python is.

A dataset that calls Python works ahead in threads of its own. One that asks for the
interpreter while it shuts down never gets an answer, and the iterator then waits for that
thread for ever. So the iterators that are left are let go when Python begins to end.
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
        """Lets the iterator and its threads go."""
        self._iterator = None


@atexit.register
def _close_all() -> None:
    for feed in list(_open):
        feed.close()

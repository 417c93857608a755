"""Prefetches host batches to the devices."""

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import jax
import numpy as np
from jax.sharding import NamedSharding

T = TypeVar("T")
_END = object()


class Prefetch(Generic[T]):
    """Turns host batches into global arrays, in a thread, `depth` batches ahead.

    `batches` are pairs of this host's rows of a global batch, and anything that goes with it, such
    as the position after it. An error of the host pipeline is raised in the consumer. Use it as a
    context manager, or `close` it. `wait_seconds` is the time that the consumer has waited.
    """

    def __init__(
        self,
        batches: Iterator[tuple[dict[str, np.ndarray], T]],
        sharding: NamedSharding,
        depth: int = 2,
    ):
        self.wait_seconds = 0.0
        self._sharding = sharding
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(batches,), daemon=True)
        self._thread.start()

    def __iter__(self) -> "Prefetch[T]":
        return self

    def __next__(self) -> tuple[dict[str, jax.Array], T]:
        if self._stopped.is_set():
            raise StopIteration
        start = time.monotonic()
        item = self._queue.get()
        self.wait_seconds += time.monotonic() - start
        if isinstance(item, BaseException):
            self.close()
            raise item
        if item is _END:
            self.close()
            raise StopIteration
        return item

    def __enter__(self) -> "Prefetch[T]":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops the thread and drops its batches."""
        self._stopped.set()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                continue

    def _run(self, batches: Iterator[tuple[dict[str, np.ndarray], T]]) -> None:
        try:
            for batch, rest in batches:
                placed = {
                    name: jax.make_array_from_process_local_data(self._sharding, rows)
                    for name, rows in batch.items()
                }
                self._queue.put((placed, rest))
                if self._stopped.is_set():
                    return
            self._queue.put(_END)
        except BaseException as error:  # noqa: BLE001 (raised again in the consumer)
            self._queue.put(error)

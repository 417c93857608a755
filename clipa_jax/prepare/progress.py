"""How far a long pass over samples is: a bar on a terminal, elsewhere a line at times."""

import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

from absl import logging
from tqdm import tqdm

from clipa_jax.training import metrics


class Progress:
    """Samples done of all, their rate and the time left.

    Args:
      what: is done, a word or two.
      total: samples.
      every_seconds: between two lines where there is no terminal.
      stream: where to; a terminal gets the bar, lines go through absl's log.
    """

    def __init__(
        self, what: str, total: int, every_seconds: float = 30.0, stream: TextIO | None = None
    ):
        self._what, self._total, self._every = what, total, every_seconds
        self._began = self._last = time.monotonic()
        self._first: int | None = None
        stream = sys.stderr if stream is None else stream
        self._bar = None
        if stream.isatty():
            self._bar = tqdm(
                total=total, desc=what, unit=" samples", file=stream, dynamic_ncols=True
            )

    def update(self, done: int) -> None:
        """Tells that `done` samples are done by now."""
        if self._first is None:
            self._first = done  # what an earlier run did says nothing of the rate
            if self._bar is not None:
                self._bar.initial = done
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
            return
        now = time.monotonic()
        if now - self._last >= self._every:
            self._last = now
            logging.info("%s %s", self._what, self._line(done, now))

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _line(self, done: int, now: float) -> str:
        rate = (done - (self._first or 0)) / max(now - self._began, 1e-9)
        left = metrics.clock((self._total - done) / rate) if rate else "-"
        return f"{done:,}/{self._total:,} samples  {rate:,.0f} samples/s  ETA {left}"


class Watcher:
    """Shows progress that other threads, processes or machines make.

    Args:
      stages: one after the other: what is done, and a function that tells how many samples
        are done, of how many; of 0 as long as the stage has not begun.
      every_seconds: between two looks.
    """

    def __init__(
        self, stages: dict[str, Callable[[], tuple[int, int]]], every_seconds: float = 2.0
    ):
        self._stages, self._every = stages, every_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        for what, look in self._stages.items():
            done, total = look()
            while not total and not self._stop.wait(self._every):
                done, total = look()
            with Progress(what, total) as progress:
                progress.update(done)
                while done < total and not self._stop.wait(self._every):
                    progress.update(done := look()[0])
                progress.update(look()[0])

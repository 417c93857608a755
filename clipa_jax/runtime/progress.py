"""Progress of long tasks: a bar on a terminal, elsewhere a log line from time to time."""

import contextlib
import math
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TextIO, TypeVar

from absl import logging
from tqdm import tqdm

from clipa_jax.runtime.format import clock

T = TypeVar("T")
# The displayed rate is an average over about this many seconds.
_RATE_SECONDS = 10.0


class _Bar(tqdm):
    """A bar whose format may contain `{status}`; tqdm puts a comma before its own postfix."""

    status = ""

    @property
    def format_dict(self) -> dict[str, Any]:
        return super().format_dict | {"status": self.status}


class Progress:
    """Display of a count, its rate and the remaining time.

    Args:
      name: first word of the line.
      total: count at the end; None if unknown.
      start: count at the beginning, for example of a resumed stage.
      unit: plural noun of the rate.
      units_per_count: for the rate, for example samples per step.
      every_seconds: minimum interval between two log lines.
      stream: shows the bar if it is a terminal; standard error by default.
      shown: False displays nothing, as on all processes but the first.
    """

    def __init__(
        self,
        name: str,
        total: int | None,
        *,
        start: int = 0,
        unit: str = "samples",
        units_per_count: int = 1,
        every_seconds: float = 30.0,
        stream: TextIO | None = None,
        shown: bool = True,
    ):
        self._name, self._total, self.count = name, total, start
        self._unit, self._units_per_count = unit, units_per_count
        self._every, self._shown, self._note = every_seconds, shown, ""
        self._last = self._last_line = time.monotonic()
        self._seconds_per_count: float | None = None
        stream = sys.stderr if stream is None else stream
        self._bar: _Bar | None = None
        if shown and stream.isatty():
            self._bar = _Bar(
                total=total,
                initial=start,
                desc=name,
                file=stream,
                dynamic_ncols=True,
                bar_format="{desc} {n_fmt}/{total_fmt} |{bar}| {status}",
                leave=True,
            )

    def update(self, count: int, note: str | None = None) -> None:
        """Sets the count. An unchanged count leaves the time since the last update out of the rate.

        Args:
          count: of everything done so far.
          note: text before the rate; None keeps the present one.
        """
        now = time.monotonic()
        self._measure(count - self.count, now - self._last)
        self.count, self._last = count, now
        self._note = self._note if note is None else note
        if self._bar is not None:
            self._bar.total, self._bar.status = self._total, self.status()
            self._bar.update(count - self._bar.n)
        elif self._shown and (now - self._last_line >= self._every or count == self._total):
            self._last_line = now
            total = "" if self._total is None else f"/{self._total:,}"
            logging.info("%s %s%s %s", self._name, f"{count:,}", total, self.status())

    def add(self, more: int) -> None:
        """Adds to the count.

        A count beyond the total is cut to it, since the last batch is padded. If the total was
        reached before, it was wrong, and is unknown from here on.
        """
        if self._total is not None and self.count >= self._total:
            self._total = None
        count = self.count + more
        self.update(count if self._total is None else min(count, self._total))

    def annotate(self, note: str) -> None:
        """Sets the text before the rate, without writing a log line for it."""
        if self._bar is None:
            self._note = note
        else:
            self.update(self.count, note)

    def message(self, text: str) -> None:
        """Writes a line of its own, above the bar."""
        if self._bar is not None:
            self._bar.write(text, file=self._bar.fp)
        elif self._shown:
            logging.info("%s", text)

    @contextlib.contextmanager
    def paused(self, activity: str = "") -> Iterator[None]:
        """Leaves the time inside out of the rate; the bar shows `activity` meanwhile."""
        if self._bar is not None and activity:
            self._bar.status = f"{activity} ..."
            self._bar.refresh()
        began = time.monotonic()
        try:
            yield
        finally:
            self._last += time.monotonic() - began

    def close(self) -> None:
        """Leaves the bar on its line and starts a new one."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def rate(self) -> float:
        """Recent units per second; 0 before the first update."""
        return self._units_per_count / self._seconds_per_count if self._seconds_per_count else 0.0

    def status(self) -> str:
        """The note, the rate and the remaining time."""
        parts = [self._note] if self._note else []
        if self._seconds_per_count is not None:
            parts.append(f"{self.rate:,.0f} {self._unit}/s")
            if self._total is not None:
                left = max(self._total - self.count, 0) * self._seconds_per_count
                parts.append(f"ETA {clock(left)}")
        return "  ".join(parts)

    def _measure(self, counts: int, seconds: float) -> None:
        if counts <= 0:
            return
        pace = seconds / counts
        old = pace if self._seconds_per_count is None else self._seconds_per_count
        keep = math.exp(-seconds / _RATE_SECONDS)
        self._seconds_per_count = keep * old + (1 - keep) * pace


def track(items: Iterable[T], name: str, total: int, unit: str = "items") -> Iterator[T]:
    """Yields the items and shows how many have been used."""
    with Progress(name, total, unit=unit) as progress:
        for item in items:
            yield item
            progress.update(progress.count + 1)


@contextlib.contextmanager
def poll(
    stages: Mapping[str, Callable[[], tuple[int, int]]], every_seconds: float = 2.0
) -> Iterator[None]:
    """Shows the progress that other threads, processes or machines make, until the block ends.

    Args:
      stages: one after the other: name, and a function that returns (samples done, total); a
        total of 0 means that the stage has not begun.
      every_seconds: interval between two calls.
    """
    ended = threading.Event()

    def show() -> None:
        for name, read in stages.items():
            done, total = read()
            while not total and not ended.wait(every_seconds):
                done, total = read()
            if not total:
                return
            with Progress(name, total, start=done) as progress:
                shown = None
                while done < total and not ended.wait(every_seconds):
                    done, _ = read()
                    if done > progress.count:
                        progress.update(shown := done)
                done, _ = read()
                if done != shown:
                    progress.update(done)

    with _thread(show, ended):
        yield


@contextlib.contextmanager
def waiting(
    activity: str, expected: float | None = None, stream: TextIO | None = None
) -> Iterator[None]:
    """Shows the elapsed time of the block on a terminal; elsewhere nothing.

    Args:
      activity: for example "compiling pretrain".
      expected: seconds that it may take in all, if known.
      stream: standard error by default.
    """
    stream = sys.stderr if stream is None else stream
    if not stream.isatty():
        yield
        return
    began, ended = time.monotonic(), threading.Event()

    def show() -> None:
        while not ended.wait(0.5):
            line = f"{activity}: {_elapsed(time.monotonic() - began, expected)}"
            stream.write(f"\r\x1b[K{line}")
            stream.flush()

    try:
        with _thread(show, ended):
            yield
    finally:
        stream.write("\r\x1b[K")
        stream.flush()


@contextlib.contextmanager
def _thread(show: Callable[[], None], ended: threading.Event) -> Iterator[None]:
    """Runs `show` in a thread beside the block; sets `ended` at the end and waits for it."""
    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _elapsed(seconds: float, expected: float | None) -> str:
    """`0:45`, and with an expectation `0:45, about 1:15 left`."""
    if expected is None:
        return clock(seconds)
    left = expected - seconds
    rest = (
        f"about {clock(left)} left" if left > 0 else f"longer than the expected {clock(expected)}"
    )
    return f"{clock(seconds)}, {rest}"

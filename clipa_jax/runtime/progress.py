"""Progress of long tasks: a bar on a terminal, elsewhere a log line from time to time."""

import contextlib
import io
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from absl import logging
from tqdm import tqdm

from clipa_jax.runtime.format import clock

LINE_SECONDS = 30.0  # minimum interval between two log lines


class _Bar(tqdm):
    """A bar that ends in a note, the rate in units and the remaining time."""

    note, units_per_count = "", 1

    @property
    def status(self) -> str:
        done, measured = self.n - self.initial, super().format_dict
        if not done:
            return self.note
        counts_per_second = measured["rate"] or done / max(measured["elapsed"], 1e-9)
        parts = [self.note] if self.note else []
        parts.append(f"{counts_per_second * self.units_per_count:,.0f} {self.unit}/s")
        if self.total is not None:
            parts.append(f"ETA {clock(max(self.total - self.n, 0) / counts_per_second)}")
        return "  ".join(parts)

    @property
    def format_dict(self) -> dict[str, Any]:
        return super().format_dict | {"status": self.status}


class _Nowhere(io.TextIOBase):
    def write(self, text: str) -> int:
        return len(text)


class Progress:
    """Display of a count, its rate and the remaining time.

    Args:
      total: count at the end; None if unknown.
      start: count at the beginning, for example of a resumed stage.
      units_per_count: for the rate, for example samples per step.
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
        shown: bool = True,
    ):
        on_terminal = shown and sys.stderr.isatty()
        self._writes_lines = shown and not on_terminal
        self._bar = _Bar(
            total=total,
            initial=start,
            desc=name,
            unit=unit,
            file=sys.stderr if on_terminal else _Nowhere(),
            dynamic_ncols=True,
            miniters=1,
            mininterval=0.1 if on_terminal else LINE_SECONDS,
            bar_format="{desc} {n_fmt}/{total_fmt} |{bar}| {status}",
        )
        self._bar.units_per_count = units_per_count

    @property
    def count(self) -> int:
        return self._bar.n

    def update(self, count: int, note: str | None = None) -> None:
        """Sets the count of everything done so far, and the text before the rate."""
        bar, more = self._bar, count - self._bar.n
        bar.note = bar.note if note is None else note
        is_due = bar.update(more) or (more and count == bar.total)
        if is_due and self._writes_lines:
            total = "" if bar.total is None else f"/{bar.total:,}"
            logging.info("%s %s%s %s", bar.desc, f"{count:,}", total, bar.status)

    def add(self, more: int) -> None:
        """Adds to the count.

        A count beyond the total is cut to it, since the last batch is padded. If the total was
        reached before, it was wrong, and is unknown from here on.
        """
        if self._bar.total is not None and self.count >= self._bar.total:
            self._bar.total = None
        total = self._bar.total
        self.update(self.count + more if total is None else min(self.count + more, total))

    def annotate(self, note: str) -> None:
        """Sets the text before the rate, and leaves the time since the last count out of it."""
        self._bar.note = note
        self._bar.unpause()
        self._bar.refresh()

    def message(self, text: str) -> None:
        """Writes a line of its own, above the bar."""
        if self._writes_lines:
            logging.info("%s", text)
        else:
            self._bar.write(text, file=self._bar.fp)

    @contextlib.contextmanager
    def paused(self, activity: str) -> Iterator[None]:
        """Leaves the time inside out of the rate; the bar shows `activity` meanwhile."""
        note, self._bar.note = self._bar.note, f"{activity} ..."
        self._bar.refresh()
        began = time.monotonic()
        try:
            yield
        finally:
            self._bar.note = note
            spent = time.monotonic() - began
            self._bar.start_t += spent
            self._bar.last_print_t += spent

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._bar.close()


@contextlib.contextmanager
def poll(
    stages: Mapping[str, Callable[[], tuple[int, int]]], every_seconds: float = 2.0
) -> Iterator[None]:
    """Shows the progress that other threads, processes or machines make, until the block ends.

    Stages come one after the other: by name a function that is called every so many seconds and
    returns (samples done, total); a total of 0 means that the stage has not begun.
    """
    ended = threading.Event()

    def show() -> None:
        for name, read in stages.items():
            done, total = read()
            while not total and not ended.wait(every_seconds):
                done, total = read()
            if not total:
                return
            with Progress(name, total) as progress:
                progress.update(done)
                while done < total and not ended.wait(every_seconds):
                    done, _ = read()
                    progress.update(done)
                progress.update(read()[0])

    with _thread(show, ended):
        yield


@contextlib.contextmanager
def waiting(activity: str, expected: float | None = None) -> Iterator[None]:
    """Shows the elapsed time of the block, for example "compiling", on a terminal only.

    `expected` are the seconds that it may take in all.
    """
    stream = sys.stderr
    if not stream.isatty():
        yield
        return
    began, ended = time.monotonic(), threading.Event()

    def show() -> None:
        while not ended.wait(0.5):
            elapsed = time.monotonic() - began
            of = f" of about {clock(expected)}" if expected else ""
            stream.write(f"\r\x1b[K{activity}: {clock(elapsed)}{of}")
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

"""What a command line shows: tables, durations, and that something long is going on."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO


def clock(seconds: float) -> str:
    """`75` -> `1:15`, `3675` -> `1:01:15`, more than two days -> `2d 03h`."""
    whole = round(seconds)
    if whole >= 2 * 86400:
        return f"{whole // 86400}d {whole % 86400 // 3600:02d}h"
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def table(rows: list[tuple[str, ...]], right: tuple[int, ...] = ()) -> str:
    """Aligned columns under a ruled header; the columns in `right` are set to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


@contextlib.contextmanager
def waiting(
    what: str, expected: float | None = None, stream: TextIO | None = None
) -> Iterator[None]:
    """Says on a terminal that `what` is going on, for how long, and how much is left.

    Elsewhere than on a terminal it says nothing.

    Args:
      what: for example "compiling pretrain".
      expected: seconds that it may take in all, if that is known.
      stream: where to, standard error by default.
    """
    stream = sys.stderr if stream is None else stream
    if not stream.isatty():
        yield
        return
    began, done = time.monotonic(), threading.Event()

    def tick() -> None:
        while not done.wait(0.5):
            line = f"{what}: {_passed(time.monotonic() - began, expected)}"
            stream.write(f"\r\x1b[K{line}")
            stream.flush()

    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        yield
    finally:
        done.set()
        ticker.join()
        stream.write("\r\x1b[K")
        stream.flush()


def _passed(seconds: float, expected: float | None) -> str:
    """`0:45`, and with an expectation `0:45, about 1:15 left`."""
    if expected is None:
        return clock(seconds)
    left = expected - seconds
    rest = (
        f"about {clock(left)} left" if left > 0 else f"longer than the expected {clock(expected)}"
    )
    return f"{clock(seconds)}, {rest}"

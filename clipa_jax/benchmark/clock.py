"""Processor time of a stream of batches: of all threads, reading ahead included.

Other processes on the machine disturb it little. Each measurement ends when the threads that read
ahead are idle, so their work is counted once.
"""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_POLL, _IDLE = 0.01, 5  # seconds between two checks; idle checks in a row


@dataclass
class Stream:
    """A stream of batches and its processor time so far."""

    name: str
    batches: Iterator[Any]  # endless
    cpu: list[float] = field(default_factory=list)  # seconds for one sample, of each round

    def run(self, batches: int, batch_size: int) -> None:
        """Takes some batches; measures until all threads are idle."""
        cpu = time.process_time()
        for _ in itertools.islice(self.batches, batches):
            pass
        cpu += _wait_until_idle()
        self.cpu.append((time.process_time() - cpu) / batches / batch_size)


def _wait_until_idle() -> float:
    """Waits until the buffers of the threads are full; returns the processor time of waiting."""
    begin, idle = time.thread_time(), 0
    while idle < _IDLE:
        time.sleep(_POLL)
        idle = 0 if _busy() else idle + 1
    return time.thread_time() - begin


def _busy() -> bool:
    """Whether another thread of this process is running or runnable."""
    busy = 0
    for path in Path("/proc/self/task").glob("*/stat"):
        try:
            busy += path.read_text().rpartition(")")[2].split()[0] in ("R", "D")
        except OSError:  # the thread has ended
            continue
    return busy > 1

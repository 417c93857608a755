"""What a stream of batches costs: processor time of all threads, reading ahead included.

Other work on the machine disturbs it little, and what the threads prepared before the first look
or go on preparing after the last batch is not counted twice: each look ends when they rest.
"""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_POLL, _QUIET = 0.01, 5  # seconds between two looks; how many must find nothing running


@dataclass
class Stream:
    """Something that gives batches, and what they have cost so far.

    Attributes:
      name: for the table.
      batches: endless.
      cpu: seconds of processor time of each round, for one sample.
    """

    name: str
    batches: Iterator[Any]
    cpu: list[float] = field(default_factory=list)

    def run(self, batches: int, batch_size: int) -> None:
        """Takes some batches; the time goes until its threads have nothing left to do."""
        cpu = time.process_time()
        for _ in itertools.islice(self.batches, batches):
            pass
        cpu += _settle()
        self.cpu.append((time.process_time() - cpu) / batches / batch_size)


def _settle() -> float:
    """Waits until the threads that read ahead have filled their buffers; gives the processor
    time of looking."""
    begin, quiet = time.thread_time(), 0
    while quiet < _QUIET:
        time.sleep(_POLL)
        quiet = 0 if _busy() else quiet + 1
    return time.thread_time() - begin


def _busy() -> bool:
    """Whether another thread of this process runs, or would if a core were free."""
    busy = 0
    for path in Path("/proc/self/task").glob("*/stat"):
        try:
            busy += path.read_text().rpartition(")")[2].split()[0] in ("R", "D")
        except OSError:  # the thread has ended
            continue
    return busy > 1

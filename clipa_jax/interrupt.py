"""Ctrl-C and SIGTERM: finish the step, save, say how to go on."""

import os
import signal
from types import FrameType, TracebackType

from absl import logging


class Interrupt:
    """While entered, remembers the first SIGINT or SIGTERM instead of dying of it.

    The training loop looks at `signal` after each step. A second signal ends the process
    at once, without a checkpoint.

    Attributes:
      signal: the signal that came, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "Interrupt":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.signal is not None:
            os._exit(128 + number)  # the exit status that shells give to a signal
        self.signal = signal.Signals(number)
        logging.warning(
            "%s: saving a checkpoint after this step; once more to stop at once", self.signal.name
        )

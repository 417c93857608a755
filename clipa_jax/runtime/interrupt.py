"""Ctrl-C and SIGTERM: finish the step, save, say how to go on.

On several processes it is enough that one of them gets the signal. All stop after the same
step, the one that `Interrupt.asked` names on each of them.

JAX has a service of its own for this (`multihost_utils.reached_preemption_sync_point`). It hears
SIGTERM alone, from the start of the process on, takes the signal from Python and has no second
one that stops at once; so it is switched off in `distributed.join`.
"""

import os
import signal
from types import FrameType, TracebackType
from typing import Any

from absl import logging

from clipa_jax.runtime import distributed


class Stopped(Exception):
    """Raised inside an evaluation that is to be left because the run was asked to stop."""


class Interrupt:
    """While entered, remembers the first SIGINT or SIGTERM instead of dying of it.

    The training loop calls `asked` after each step. A second signal ends the process at once,
    without a checkpoint.

    Attributes:
      signal: the signal that came to this process, or None.
      agreed: the signal that all processes know of, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.agreed: signal.Signals | None = None
        self._flag: distributed.Flag | None = None
        self._before: dict[signal.Signals, object] = {}

    def asked(self, after: Any = None) -> signal.Signals | None:
        """The signal, once all processes know of it; the same at the same call on all of them.

        On a single process that is at once, on several one call after it came.

        Args:
          after: arrays of the program that was started last, if it may still run.
        """
        if self._flag is not None and self.agreed is None:
            number = self._flag.read(self.signal or 0, after)
            if number:
                self.agreed = signal.Signals(number)
                if self.signal is None:
                    logging.warning("%s on another process: stopping too", self.agreed.name)
        return self.agreed

    def check(self, after: Any = None) -> None:
        """Raises `Stopped` if the run was asked to stop; counts as a call of `asked`."""
        if self.asked(after) is not None:
            raise Stopped

    def __enter__(self) -> "Interrupt":
        self._flag = distributed.Flag()
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

"""Ctrl-C and SIGTERM: finish the step, save, stop.

If one of several processes gets the signal, all stop after the same step.

JAX's own preemption service (`multihost_utils.reached_preemption_sync_point`) handles SIGTERM only,
hides the signal from Python and cannot stop at once at a second signal; `distributed.join` turns
it off.
"""

import os
import signal
from types import FrameType, TracebackType
from typing import Any

from absl import logging

from clipa_jax.runtime import distributed


class Stopped(Exception):
    """Ends an evaluation because the run is to stop."""


class Interrupt:
    """Records the first SIGINT or SIGTERM while entered, instead of ending the process.

    The training loop calls `read` after each step. A second signal ends the process at once,
    without a checkpoint. `signal` is the one received by this process, `shared` the one known to
    all processes; None so far.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.shared: signal.Signals | None = None
        self._flag: distributed.Flag | None = None
        self._before: dict[signal.Signals, object] = {}

    def read(self, after: Any = None) -> signal.Signals | None:
        """The signal, once all processes know of it; equal on all of them at the same call.

        A single process returns it at once, several one call later. `after` are arrays of the
        program that was started last, if it may still run.
        """
        if self._flag is not None and self.shared is None:
            number = self._flag.read(self.signal or 0, after)
            if number:
                self.shared = signal.Signals(number)
                if self.signal is None:
                    logging.warning("%s on another process: stopping too", self.shared.name)
        return self.shared

    def check(self, after: Any = None) -> None:
        """Raises `Stopped` if the run is to stop; counts as a call of `read`."""
        if self.read(after) is not None:
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
            os._exit(128 + number)  # the exit status of a process ended by a signal
        self.signal = signal.Signals(number)
        logging.warning(
            "%s: saving a checkpoint after this step; a second signal stops at once",
            self.signal.name,
        )

"""Metrics of each step: written, shown and checked.

Metrics of step n-1 are fetched while step n runs, so that reading them costs no time.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
from absl import logging

from clipa_jax.config.durations import Durations
from clipa_jax.errors import UserError
from clipa_jax.runtime.format import percent
from clipa_jax.runtime.interrupt import Stopped
from clipa_jax.runtime.progress import Progress
from clipa_jax.training import metrics, records
from clipa_jax.training.efficiency import Efficiency
from clipa_jax.training.spikes import Spikes


@dataclass(kw_only=True)
class Recorder:
    """Writes, shows and checks the metrics of a stage, and measures its time."""

    durations: Durations
    writer: metrics.Writer
    progress: Progress
    watch: Spikes  # finds spikes among the losses
    efficiency: Efficiency  # told of the time that is lost to input and evaluation
    position: Mapping[str, Any]  # what `saved` gave for the checkpoint that the stage resumes from
    skipped: Callable[[], Mapping[str, int]] = dict  # unusable samples so far, by reason
    max_skips: int = 0  # consecutive updates that may be skipped because they are not finite
    # Called with the share of time spent waiting for input since the last record.
    slow_input: Callable[[float], object] = lambda share: None

    def __post_init__(self) -> None:
        self._skips, self._consecutive = 0, 0
        self._began = time.monotonic() - self.position.get("seconds", 0.0)
        self._pending: tuple[int, dict[str, jax.Array], int] | None = None
        self._waited = 0.0  # seconds of waiting for input
        self._last = (time.monotonic(), 0.0, 0)  # time, seconds waited, step of the last record
        self.scores: dict[str, float] = self.position.get("scores", {})

    @property
    def seconds(self) -> float:
        """Seconds of training so far, with compilation, without evaluation."""
        return time.monotonic() - self._began

    def saved(self, samples: int) -> dict[str, Any]:
        """The part of a checkpoint on metrics, after so many samples of the data."""
        return {
            "seconds": self.seconds,
            "scores": self.scores,
            "efficiency": self.efficiency.state(),
            "losses": self.watch.saved(samples),
        }

    def step(self, step: int, values: dict[str, jax.Array], waited: float, samples: int) -> None:
        """Stores the metrics of a running step, and processes those of the step before.

        `step` is the number of updates at its end, `values` are scalars on the device, `waited` the
        seconds of waiting for input so far, `samples` those of the data that are used at its end.
        """
        self.efficiency.lose("input", waited - self._waited)
        self._waited = waited
        self._process_pending()
        self._pending = (step, values, samples)

    def flush(self) -> None:
        """Waits for the metrics of the last step, and for the workdir to hold all of them.

        Raises `UserError` if they are not finite or cannot be written.
        """
        self._process_pending()
        self.writer.flush()

    def evaluate(self, step: int, evaluate: Callable[[], dict[str, float]]) -> bool:
        """Runs the evaluators after `step` and writes their scores; the clock is stopped.

        Returns False if the evaluation was interrupted.
        """
        self.flush()
        before = time.monotonic()
        try:
            with self.progress.paused("evaluating"), self.efficiency.losing("evaluation"):
                self.scores = evaluate()
        except Stopped:
            return False
        finally:
            spent = time.monotonic() - before
            self._began += spent
            self._last = (self._last[0] + spent, *self._last[1:])
        measured = self.efficiency.metrics(None)
        self.writer.write(step, {**self.scores, **measured, records.TRAIN_SECONDS: self.seconds})
        best = {k: v for k, v in self.scores.items() if k.endswith(("/top1", "_r1"))}
        shown = "  ".join(f"{name} {percent(value)}" for name, value in best.items())
        if shown:
            self.progress.message(f"{step * self.durations.batch_size:,} samples: {shown}")
        return True

    def _process_pending(self) -> None:
        if self._pending is None:
            return
        step, on_device, samples = self._pending
        self._pending = None
        values: dict[str, float] = {k: float(v) for k, v in jax.device_get(on_device).items()}
        self.progress.update(step, f"loss {values['loss']:.3f}")
        bad = [k for k in ("loss", "l2_grads", "l2_params") if not math.isfinite(values[k])]
        self._consecutive = self._consecutive + 1 if bad else 0
        # The step skips updates that are not finite; parameters that are not finite stay so.
        stop = self._consecutive > self.max_skips or "l2_params" in bad
        self._skips += bool(bad) and not stop
        every = self.durations.log_steps
        if bad or step == self.durations.total_steps or (every and step % every == 0):
            self._write(step, values)
        if bad:
            size = self.durations.batch_size
            self._report_nonfinite(
                f"{bad[0]} is {values[bad[0]]} at step {step} (samples {samples - size:,} to "
                f"{samples:,} of the stage)",
                stop,
            )
        self.watch.add(step, values["loss"], samples)

    def _report_nonfinite(self, problem: str, stop: bool) -> None:
        """Logs a step that is not finite; raises `UserError` if it ends the run."""
        if not stop:
            logging.warning("%s; update skipped, %d in a row", problem, self._consecutive)
            return
        before = (
            f", after {self._consecutive - 1} skipped in a row" if self._consecutive > 1 else ""
        )
        raise UserError(
            f"{problem}{before}; the last checkpoint is kept. A lower learning rate "
            "(--config.optim.lr_per_256) or --config.optim.grad_clip=1.0 may help"
        )

    def _write(self, step: int, values: Mapping[str, Any]) -> None:
        now = time.monotonic()
        last_time, last_waited, last_step = self._last
        seconds, steps = now - last_time, step - last_step
        self._last = (now, self._waited, step)
        # The first stretch has the start of the pipeline in it.
        rate = steps * self.durations.batch_size / seconds if last_step else None
        share = min((self._waited - last_waited) / seconds, 1.0)
        self.slow_input(share)
        self.writer.write(
            step,
            {
                **values,
                **({} if rate is None else {"samples_per_second": rate}),
                **self.efficiency.metrics(rate),
                "input_wait_share": share,
                "samples": step * self.durations.batch_size,
                records.TRAIN_SECONDS: self.seconds,
                **{f"{records.SKIPPED}{reason}": n for reason, n in self.skipped().items()},
                **({"skipped_updates": self._skips} if self.max_skips else {}),
            },
        )

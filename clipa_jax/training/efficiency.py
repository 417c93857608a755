"""Wall time of a stage by cause, and the share of their peak that its chips reach."""

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from clipa_jax.runtime import format
from clipa_jax.training.records import LOST

CAUSES = ("compile", "input", "evaluation", "checkpoint", "restart")


class Efficiency:
    """Goodput, speed per chip, model FLOP utilization and device memory of a stage.

    Goodput is the share of the wall time that is spent in steps; the rest is lost to one of
    `CAUSES`. A restart costs all the time since the checkpoint that the run resumes from was saved:
    steps that are lost, the pause, and the start. Utilization (MFU, as in PaLM, arXiv 2204.02311)
    is the FLOPs that the model needs, without recomputation, over those that the chips could do.

    `saved` is the `state` in the checkpoint that the stage resumes from, None at its beginning;
    `max_samples_per_second` that of all chips at their peak, nan if it is unknown.
    """

    def __init__(
        self,
        saved: Mapping[str, Any] | None = None,
        *,
        num_chips: int = 1,
        max_samples_per_second: float = math.nan,
    ):
        pause = max(time.time() - saved["at"], 0.0) if saved else 0.0
        self._lost = dict.fromkeys(CAUSES, 0.0) | dict(saved["lost"] if saved else {})
        self._lost["restart"] += pause
        self._before, self._began = (saved["wall"] if saved else 0.0) + pause, time.monotonic()
        self._num_chips, self._max_rate = num_chips, max_samples_per_second
        self._speed: dict[str, float] = {}

    @contextlib.contextmanager
    def losing(self, cause: str) -> Iterator[None]:
        """Counts the time of the block as lost."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.lose(cause, time.monotonic() - began)

    def lose(self, cause: str, seconds: float) -> None:
        """Counts seconds of the past as lost."""
        self._lost[cause] += seconds

    def metrics(self, samples_per_second: float | None) -> dict[str, float]:
        """Metrics for the log: shares of the wall time so far, and the speed, if known.

        MFU is nan on unknown chips; memory is missing where the backend does not report it.
        """
        wall = max(self._wall, 1e-9)
        lost = {LOST + cause: min(seconds / wall, 1.0) for cause, seconds in self._lost.items()}
        if samples_per_second is not None:
            self._speed = {
                "samples_per_second_per_chip": samples_per_second / self._num_chips,
                "mfu": samples_per_second / self._max_rate,
            }
        used = [(device.memory_stats() or {}) for device in jax.local_devices()]
        peaks = [stats["peak_bytes_in_use"] for stats in used if "peak_bytes_in_use" in stats]
        memory = {"device_memory_bytes": max(peaks)} if peaks else {}
        return {"goodput": max(1 - sum(lost.values()), 0.0), **lost, **self._speed, **memory}

    def state(self) -> dict[str, Any]:
        """The part that checkpoints store."""
        return {"wall": self._wall, "at": time.time(), "lost": dict(self._lost)}

    def __str__(self) -> str:
        """A line for the log at the end of a stage."""
        values = self.metrics(None)
        lost = [f"{cause} {format.percent(values[LOST + cause])}" for cause in CAUSES]
        parts = [f"goodput {format.percent(values['goodput'])} of {format.clock(self._wall)}"]
        parts.append(f"the rest: {', '.join(lost)}")
        if self._speed:
            speed = self._speed["samples_per_second_per_chip"]
            parts.append(f"{format.significant(speed)} samples/s per chip")
            if math.isfinite(self._speed["mfu"]):
                parts.append(f"MFU {format.percent(self._speed['mfu'])}")
        if "device_memory_bytes" in values:
            parts.append(f"{format.memory(values['device_memory_bytes'])} of device memory")
        return "; ".join(parts)

    @property
    def _wall(self) -> float:
        return self._before + time.monotonic() - self._began

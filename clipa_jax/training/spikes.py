"""Loss spikes: detected robustly, recorded in the workdir, rolled back on request."""

import collections
import json
import math
import statistics
from collections.abc import Callable, Iterable
from typing import Any

from absl import logging

from clipa_jax.errors import UserError
from clipa_jax.runtime import distributed, files
from clipa_jax.training import workdir

WINDOW = 256  # losses that the median is taken of
FEWEST = 64  # before which nothing counts as a spike
FACTOR = 10.0  # robust standard deviations above the median
SMALLEST = 0.01  # standard deviation, as a share of the median
_NORMAL = 1.4826  # standard deviation of a normal distribution over its MAD


class Rollback(Exception):
    """Ends the training loop; the stage continues from its last checkpoint."""


class Spikes:
    """Watches the losses of a stage; process 0 writes its spikes to `spikes.jsonl`.

    A loss is a spike if it exceeds the median of the last `WINDOW` by `FACTOR` standard deviations,
    estimated by the median absolute deviation (MAD), of which the smallest is `SMALLEST` of the
    median. Of consecutive spikes only the first is recorded. The losses are equal on all processes,
    and so are the spikes.

    Args:
      places: the samples [begin, end) of the stage, by file, see `TrainData.places`.
      saved: the `losses` in the checkpoint that the stage resumes from.
      samples: samples of the data that lie behind that checkpoint.
      max_rollbacks: of the stage; one spike more stops the run. None: spikes are only recorded.
    """

    def __init__(
        self,
        folder: files.Path,
        places: Callable[[int, int], dict[str, list[int]]],
        batch_size: int,
        saved: Iterable[float] = (),
        samples: int = 0,
        max_rollbacks: int | None = None,
    ):
        self._file, self._places, self._batch_size = folder / workdir.SPIKES, places, batch_size
        self._losses = collections.deque(saved, WINDOW)
        self._kept, self._max_rollbacks, self._inside = samples, max_rollbacks, False
        self._known: list[dict[str, Any]] = distributed.from_first(read(folder))

    @property
    def left_out(self) -> list[tuple[int, int]]:
        """Ranges [begin, end) of samples that rollbacks skip."""
        return [tuple(spike["left_out"]) for spike in self._known if spike["left_out"]]

    def saved(self, samples: int) -> list[float]:
        """The losses, to be kept in a checkpoint with so many samples of the data behind it."""
        self._kept = samples
        return list(self._losses)

    def add(self, step: int, loss: float, samples: int) -> None:
        """Adds the loss of the step after which so many samples of the data are used.

        Raises `Rollback` after a spike, `UserError` if there have been too many.
        """
        if not math.isfinite(loss):
            return
        measured = _measure(self._losses)
        self._losses.append(loss)
        before, self._inside = self._inside, bool(measured and loss > measured[0] + measured[1])
        if measured is None or not self._inside or before:
            return
        median, margin = measured
        used = (samples - self._batch_size, samples)
        text = (
            f"loss {loss:.4g} at step {step} is a spike: more than {margin:.2g} above the median "
            f"{median:.4g} of the last {WINDOW} steps; its samples, {used[0]:,} to {used[1]:,} of "
            f"the stage, are listed in {self._file}"
        )
        rollbacks, left_out = len(self.left_out), None
        if self._max_rollbacks is not None and rollbacks < self._max_rollbacks:
            left_out = (self._kept, samples)
        spike: dict[str, Any] = {"step": step, "loss": loss, "median": median, "margin": margin}
        spike |= {"samples": used, "left_out": left_out, "files": self._places(*used)}
        others = [known for known in self._known if known["left_out"] or known["step"] < step]
        self._known = sorted([*others, spike], key=lambda known: known["samples"][1])
        if distributed.first():
            lines = [json.dumps(known) + "\n" for known in self._known]
            files.write_text(self._file, "".join(lines))
        logging.warning("%s", text)
        if left_out:
            logging.warning(
                "rollback %d of at most %d: to the last checkpoint, without samples %s to %s",
                *(rollbacks + 1, self._max_rollbacks, f"{left_out[0]:,}", f"{left_out[1]:,}"),
            )
            raise Rollback
        if self._max_rollbacks is not None:
            raise UserError(
                f"{text}. After max_rollbacks={self._max_rollbacks} rollbacks the run stops; the "
                "last checkpoint is kept. Raise max_rollbacks, set on_spike=None, or lower the "
                "learning rate (--config.optim.lr_per_256) in another --workdir"
            )


def read(folder: files.Path) -> list[dict[str, Any]]:
    """The spikes of a stage so far."""
    file = folder / workdir.SPIKES
    if not files.exists(file):
        return []
    return [json.loads(line) for line in files.read_text(file).splitlines()]


def _measure(losses: collections.deque[float]) -> tuple[float, float] | None:
    """(median, the margin above it that a spike exceeds); None for too few losses."""
    if len(losses) < FEWEST:
        return None
    median = statistics.median(losses)
    deviation = _NORMAL * statistics.median(abs(loss - median) for loss in losses)
    return median, FACTOR * max(deviation, SMALLEST * abs(median))

"""What is going on while evaluators run: a bar on a terminal, elsewhere a line at times."""

import contextlib
from collections.abc import Iterator
from typing import Any, TextIO

from clipa_jax.runtime.terminal import clock
from clipa_jax.training import metrics


class Bars:
    """A bar for each evaluation, moved by the batches that the encoders make."""

    def __init__(self, stream: TextIO | None = None):
        self._stream = stream
        self._bar: _Bar | None = None

    @contextlib.contextmanager
    def of(self, name: str, total: int | None) -> Iterator[None]:
        """Shows the evaluation `name` of `total` pictures while it runs inside."""
        self._bar = _Bar(name, total, self._stream)
        with self._bar:
            yield
        self._bar = None

    def pictures(self, z_BE: Any) -> None:
        """Tells that a batch of pictures has been started; see `embed.watched`."""
        if self._bar is not None:
            self._bar.pictures(len(z_BE))

    def texts(self, z_BE: Any) -> None:
        """Likewise of texts."""
        if self._bar is not None:
            self._bar.texts(len(z_BE))


class _Bar(metrics.Progress):
    def __init__(self, name: str, total: int | None, stream: TextIO | None):
        super().__init__(name, total or 0, batch_size=1, stream=stream)
        self._num_texts = 0
        if total is None:
            self._forget_total()

    def pictures(self, more: int) -> None:
        if self._total and self._step >= self._total:
            self._forget_total()  # those of another split, from which a probe learns
        step = self._step + more
        self.update(min(step, self._total) if self._total else step)  # the last batch is padded

    def texts(self, more: int) -> None:
        self._num_texts += more
        if self._bar is not None:
            self.update(self._step)

    def _forget_total(self) -> None:
        self._total = 0
        if self._bar is not None:
            self._bar.total = None

    def _status(self) -> str:
        texts = f"{self._num_texts:,} texts  " if self._num_texts else ""
        speed = f"{self.samples_per_second:,.0f} pictures/s  " if self._step else ""
        left = max(self._total - self._step, 0) * (self._seconds_per_step or 0.0)
        return texts + speed + (f"ETA {clock(left)}" if self._step and self._total else "")

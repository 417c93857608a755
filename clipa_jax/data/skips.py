"""Samples that cannot be used: counted by reason, the first ones named, too many an error."""

import collections
from collections.abc import Callable

import numpy as np
from absl import logging

from clipa_jax.errors import DataError

# What the pipeline writes beside each row; 0 is a good sample.
REASONS = ("", "decode", "missing_key", "empty_caption", "unreadable", "too_large")
DECODE, MISSING_KEY, EMPTY_CAPTION, UNREADABLE, TOO_LARGE = 1, 2, 3, 4, 5
_NAMED = 5  # in the log
_SETTLED = 10_000  # samples before a share means anything


class Skips:
    """Keeps count.

    Args:
      where: the source and split, for messages.
      name: count of a sample -> the file and the place in it.
      max_percent: of the samples; more is an error.
      epoch: samples of an epoch; the share is taken of one epoch at least, or of 10,000
        samples, whichever is less.
    """

    def __init__(self, where: str, name: Callable[[int], str], max_percent: float, epoch: int):
        self._where, self._name, self._max_percent = where, name, max_percent
        self._least = min(epoch, _SETTLED)
        self._seen = 0
        self._counts: collections.Counter[str] = collections.Counter()
        self._examples: list[str] = []

    @property
    def counts(self) -> dict[str, int]:
        """Skipped samples by reason."""
        return dict(self._counts)

    def add(self, reasons: np.ndarray, counts: np.ndarray) -> None:
        """Takes note of a batch.

        Args:
          reasons: int (B,), places in `REASONS`.
          counts: int64 (B,), which samples they are.

        Raises:
          DataError: more than `max_percent` have been skipped.
        """
        self._seen += len(reasons)
        if not reasons.any():
            return
        for row in np.flatnonzero(reasons):
            reason = REASONS[reasons[row]]
            self._counts[reason] += 1
            if len(self._examples) < _NAMED:
                self._examples.append(f"{self._name(int(counts[row]))} ({reason})")
                logging.warning("skipped %s of %s", self._examples[-1], self._where)
        skipped = sum(self._counts.values())
        share = 100 * skipped / max(self._seen, self._least)
        if share > self._max_percent:
            raise DataError(
                f"{self._where}: {skipped} of {self._seen} samples could not be used, more than "
                f"max_skip_percent={self._max_percent}; by reason: {self.counts}; "
                f"the first: {', '.join(self._examples)}"
            )

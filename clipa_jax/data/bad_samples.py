"""Bad samples, such as a corrupt JPEG, a blank caption or a record that cannot be read.

A bad sample costs only itself: the next good sample of its chunk takes its place, so the others
keep theirs, hosts stay in step and the position of a run stays exact. `fault` finds the samples
that cannot be used before they are decoded. Those that fail later, as a corrupt JPEG does in its
decoder, are dropped by `map_chunk.one_by_one`. `replacements` fills the gaps, and `SkipCounter`
counts them by reason.

n samples of a chunk, m of them that came through.
"""

import collections
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from absl import logging

from clipa_jax.errors import DataError
from clipa_jax.preprocess import header
from clipa_jax.preprocess.registry import Sample

# Indexed by the number that the pipeline writes beside each sample; 0 is a good one.
REASONS = ("", "decode", "missing_key", "empty_caption", "unreadable", "too_large")
DECODE, MISSING_KEY, EMPTY_CAPTION, UNREADABLE, TOO_LARGE = range(1, len(REASONS))
CAPTION_BYTES = 16_384  # longer captions are cut
_NAMED = 5  # bad samples that the log names
_SETTLED = 10_000  # samples before their share is meaningful


def cleaned(sample: Sample, captions: bool) -> Sample:
    """A parsed sample with the size of its picture, and its captions without blank ones.

    Args:
      sample: image and captions of one sample or, with ragged captions, of n samples.
      captions: whether captions are wanted; else they are left as they are.
    """
    sample = header.added(sample)
    return {**sample, "captions": _filled(sample["captions"])} if captions else sample


def fault(sample: Sample, captions: bool, max_pixels: int) -> tf.Tensor:
    """The reason why a cleaned sample, or each of n, cannot be used, int32; 0 if it can.

    Args:
      sample: from `cleaned`.
      captions: whether it needs a caption.
      max_pixels: of a picture.
    """
    reason = tf.where(tf.reduce_prod(sample["_size"], -1) > max_pixels, TOO_LARGE, 0)
    reason = tf.where(tf.strings.length(sample["image"]) == 0, MISSING_KEY, reason)
    if captions:
        texts = sample["captions"]
        count = texts.row_lengths() if isinstance(texts, tf.RaggedTensor) else tf.size(texts)
        reason = tf.where((reason == 0) & (count == 0), EMPTY_CAPTION, reason)
    return reason


def valid_utf8(texts: tf.Tensor) -> tf.Tensor:
    """Captions as valid UTF-8: each bad byte becomes U+FFFD, and long ones are cut."""
    texts = tf.strings.substr(texts, 0, CAPTION_BYTES)
    return tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")


def replacements(row_m: tf.Tensor, reason_m: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The sample that takes each of n = `size` rows: the next good one, else the last good one.

    Args:
      row_m: int64, rows of the samples that came through, ascending; the last one is a blank.
      reason_m: int32, their reasons.
      size: n.

    Returns:
      An index of the m samples for each row, int32 (n,); and the reason of each row, int32 (n,).
    """
    row_m, reason_m, blank = row_m[:-1], reason_m[:-1], tf.size(row_m) - 1
    lost_n = tf.fill([size], DECODE)
    reason_n = tf.tensor_scatter_nd_update(lost_n, row_m[:, None], reason_m)
    good = tf.where(reason_m == 0)[:, 0]
    nearest = tf.searchsorted(tf.gather(row_m, good), tf.range(size, dtype=tf.int64))
    nearest = tf.minimum(nearest, tf.size(good) - 1)
    index_n = tf.cond(
        tf.size(good) > 0,
        lambda: tf.cast(tf.gather(good, nearest), tf.int32),
        lambda: tf.fill([size], blank),
    )
    return index_n, reason_n


class SkipCounter:
    """Counts bad samples by reason, names the first ones, and stops a run with too many.

    Args:
      where: the source and split, for messages.
      name: count of a sample -> its file and its index there.
      max_percent: of the samples; more is an error.
      epoch: samples of an epoch. The share is taken of at least one epoch, or of 10,000 samples
        if that is less.
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
        """Counts the bad samples of a batch.

        Args:
          reasons: int (B,), indices of `REASONS`.
          counts: int64 (B,), the counts of the samples in the run.

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


def _filled(texts: tf.Tensor | tf.RaggedTensor) -> tf.Tensor | tf.RaggedTensor:
    """Valid captions, without blank ones."""
    ragged = isinstance(texts, tf.RaggedTensor)
    valid = valid_utf8(texts.flat_values if ragged else texts)
    filled = tf.strings.length(tf.strings.strip(valid)) > 0
    if ragged:
        return tf.ragged.boolean_mask(texts.with_flat_values(valid), texts.with_flat_values(filled))
    return tf.gather(valid, tf.where(filled)[:, 0])

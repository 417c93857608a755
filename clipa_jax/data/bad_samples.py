"""Bad samples, such as a corrupt JPEG, a blank caption or a record that cannot be read.

A bad sample costs only itself: the next good sample of its chunk takes its place, so the others
keep theirs, hosts stay in step and the position of a run stays exact. `fault` finds the samples
that cannot be used before they are decoded. Those that fail later, as a corrupt JPEG does in its
decoder, are dropped by `map_chunk.one_by_one`. `replacements` fills the gaps, and `SkipCounter`
counts them by reason.

n samples of a chunk, m of them that came through.
"""

import collections
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from clipa_jax.data.order import Order
from clipa_jax.data.sources.base import Source
from clipa_jax.errors import DataError
from clipa_jax.preprocess import cleaning, header
from clipa_jax.preprocess.registry import Sample

# Indexed by the number that the pipeline writes beside each sample; 0 is a good one.
REASONS = ("", "decode", "missing_key", "empty_caption", "unreadable", "too_large")
DECODE, MISSING_KEY, EMPTY_CAPTION, UNREADABLE, TOO_LARGE = range(1, len(REASONS))
Texts = Any  # captions (m,), or ragged ones (n, None)
CAPTION_BYTES = 16_384  # longer captions are cut
_NAMED = 5  # bad samples that the log names
_SETTLED = 10_000  # samples before their share is meaningful


def cleaned(
    sample: Sample,
    captions: bool,
    clean: str = "none",
    weights: Sequence[float] = (),
    draw: tf.Tensor | None = None,
) -> Sample:
    """A parsed sample, or n samples with ragged captions, with the size of its picture and, if
    captions are wanted, without blank ones.

    Of a list of captions, those of one field are drawn by `weights` and `draw`, uniform in [0, 1),
    float32 () or (n,).
    """
    sample = header.added(sample)
    if not captions:
        return sample
    texts = sample["captions"]
    if draw is None:
        return {**sample, "captions": _filled(texts, clean)}
    return {**sample, "captions": _drawn([_filled(t, clean) for t in texts], weights, draw)}


def fault(sample: Sample, captions: bool, max_pixels: int) -> tf.Tensor:
    """The reason why a cleaned sample, or each of n, cannot be used, int32; 0 if it can."""
    reason = tf.where(tf.reduce_prod(sample["_size"], -1) > max_pixels, TOO_LARGE, 0)
    reason = tf.where(tf.strings.length(sample["image"]) == 0, MISSING_KEY, reason)
    if captions:
        blank = _count(sample["captions"]) == 0
        reason = tf.where((reason == 0) & blank, EMPTY_CAPTION, reason)
    return reason


def valid_utf8(texts: tf.Tensor) -> tf.Tensor:
    """Captions as valid UTF-8: each bad byte becomes U+FFFD, and long ones are cut."""
    texts = tf.strings.substr(texts, 0, CAPTION_BYTES)
    return tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")


def replacements(row_m: tf.Tensor, reason_m: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The sample that takes each of n = `size` rows: the next good one, else the last good one.

    From the rows, int64, ascending, and the reasons, int32, of the m samples that came through, the
    last of them a blank: an index of the m samples and the reason of each row, int32 (n,) both.
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

    More than `max_percent` are an error, of at least one epoch, or of 10,000 samples if that is
    less.
    """

    def __init__(self, source: Source, order: Order, *, max_percent: float, epoch: int):
        self._source, self._order, self._max_percent = source, order, max_percent
        self._where = f"{source.spec}, split {source.split}"
        self._least = min(epoch, _SETTLED)
        self._seen = 0
        self._counts: collections.Counter[str] = collections.Counter()
        self._examples: list[str] = []

    @property
    def counts(self) -> dict[str, int]:
        """Skipped samples by reason."""
        return dict(self._counts)

    def add(self, reasons: np.ndarray, counts: np.ndarray) -> None:
        """Counts the bad samples of a batch: indices of `REASONS` int (B,), and the counts of the
        samples in the run int64 (B,)."""
        self._seen += len(reasons)
        if not reasons.any():
            return
        for row in np.flatnonzero(reasons):
            reason = REASONS[reasons[row]]
            self._counts[reason] += 1
            if len(self._examples) < _NAMED:
                shard, index = self._order.locate(counts[row : row + 1].astype(np.int64))
                place = self._source.describe(int(shard[0]), int(index[0]))
                self._examples.append(f"{place} ({reason})")
                logging.warning("skipped %s of %s", self._examples[-1], self._where)
        skipped = sum(self._counts.values())
        share = 100 * skipped / max(self._seen, self._least)
        if share > self._max_percent:
            raise DataError(
                f"{self._where}: {skipped} of {self._seen} samples could not be used, more than "
                f"max_skip_percent={self._max_percent}; by reason: {self.counts}; "
                f"the first: {', '.join(self._examples)}"
            )


def _drawn(groups: Sequence[Texts], weights: Sequence[float], draw: tf.Tensor) -> Texts:
    """The captions of one of F fields, of those that have any."""
    filled_F = tf.stack([_count(texts) > 0 for texts in groups], -1)
    end_F = tf.cumsum(tf.cast(filled_F, tf.float32) * weights, -1)
    total = end_F[..., -1:]
    field = tf.reduce_sum(tf.cast(draw[..., None] * total >= end_F, tf.int32), -1)
    # A product that is rounded up may reach the total.
    field = tf.minimum(field, tf.argmax(end_F >= total, -1, tf.int32))
    drawn = groups[-1]
    for number, texts in reversed([*enumerate(groups[:-1])]):
        if isinstance(texts, tf.RaggedTensor):
            drawn = tf.where(field[:, None] == number, texts, drawn)
        else:
            drawn = tf.cond(field == number, lambda texts=texts: texts, lambda rest=drawn: rest)
    return drawn


def _count(texts: Texts) -> tf.Tensor:
    return texts.row_lengths() if isinstance(texts, tf.RaggedTensor) else tf.size(texts)


def _filled(texts: Texts, clean: str) -> Texts:
    """Valid captions, cleaned, without blank ones."""
    ragged = isinstance(texts, tf.RaggedTensor)
    valid = cleaning.cleaned(valid_utf8(texts.flat_values if ragged else texts), clean)
    filled = tf.strings.length(tf.strings.strip(valid)) > 0
    if ragged:
        return tf.ragged.boolean_mask(texts.with_flat_values(valid), texts.with_flat_values(filled))
    return tf.gather(valid, tf.where(filled)[:, 0])

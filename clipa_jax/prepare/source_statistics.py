"""Statistics of a source: bad samples, sizes, caption lengths, repetitions."""

import collections
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from clipa_jax.data.sources.base import Source
from clipa_jax.prepare.counters import Counters
from clipa_jax.prepare.report import sample_name
from clipa_jax.prepare.samples import SampleReader, digest
from clipa_jax.preprocess import decode
from clipa_jax.preprocess.text import Tokenizer

SPREAD = 64  # shards that a limited inspection covers, at least
QUANTILES = {"least": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "most": 1.0}
_BATCH = 512  # captions tokenized together
_FREQUENT = 5  # most frequent captions in the report


@dataclass
class Statistics:
    """Statistics of the samples read so far, and the occurrences of pictures and captions."""

    bad: Counters = field(default_factory=Counters)  # samples that cannot be used, by reason
    size_N2: list[tuple[int, int]] = field(default_factory=list)  # height and width of good ones
    bytes_N: list[int] = field(default_factory=list)  # of their encoded pictures
    pieces_M: list[int] = field(default_factory=list)  # of their captions
    images: collections.Counter[bytes] = field(default_factory=collections.Counter)
    captions: collections.Counter[bytes] = field(default_factory=collections.Counter)
    pairs: collections.Counter[bytes] = field(default_factory=collections.Counter)

    @property
    def total(self) -> int:
        """Samples read, good and bad."""
        return len(self.size_N2) + sum(self.bad.counts.values())


def parts(source: Source, limit: int) -> list[tuple[int, int, int]]:
    """The samples to read: (shard, start, length), `limit` samples in all, 0 for all.

    A limit is spread evenly over many shards in a fixed random order.
    """
    lengths = [shard.length for shard in source.shards]
    limit = min(limit or sum(lengths), sum(lengths))
    if limit == sum(lengths):
        return [(shard, 0, length) for shard, length in enumerate(lengths) if length]
    order = np.random.default_rng(0).permutation(len(lengths)).tolist()
    share = -(-limit // min(SPREAD, len(lengths)))
    ranges: list[tuple[int, int, int]] = []
    start = 0
    while limit:
        for shard in order:
            length = min(share, limit, lengths[shard] - start)
            if length > 0:
                ranges.append((shard, start, length))
                limit -= length
        start += share
    return sorted(ranges)


def collect(
    source: Source, tokenizer: Tokenizer, limit: int = 0, max_pixels: int = decode.MAX_PIXELS
) -> Iterator[Statistics]:
    """Reads up to `limit` samples, 0 for all; yields one growing object after every hundred."""
    reader, statistics = SampleReader(source, max_pixels=max_pixels), Statistics()
    waiting: list[bytes] = []
    first_rows = np.cumsum([0, *(shard.length for shard in source.shards)])
    for shard, start, length in parts(source, limit):
        for sample in reader.read(shard, start, length):
            if sample.reason:
                statistics.bad.add(sample.reason, rows=[int(first_rows[shard]) + sample.row])
            else:
                statistics.size_N2.append((sample.height, sample.width))
                statistics.bytes_N.append(len(sample.image))
                statistics.images[digest(sample.image)] += 1
                statistics.pairs[digest(sample.image, *sample.captions)] += 1
                statistics.captions.update(sample.captions)
                waiting += sample.captions
            if len(waiting) >= _BATCH:
                statistics.pieces_M += _count(tokenizer, waiting)
                waiting = []
            if statistics.total % 100 == 0:
                yield statistics
    statistics.pieces_M += _count(tokenizer, waiting) if waiting else []
    yield statistics


def _count(tokenizer: Tokenizer, texts: list[bytes]) -> list[int]:
    return tokenizer.vocabulary.split(tf.constant(texts)).row_lengths().numpy().tolist()


def summary(
    source: Source, statistics: Statistics, *, res: int, text_len: int, reduction: str, vocab: str
) -> dict[str, Any]:
    """The statistics as JSON; the first of `text_len` tokens is not of the caption."""
    size_N2 = np.array(statistics.size_N2, np.int64).reshape(-1, 2)
    short_N, long_N = size_N2.min(1, initial=2**31), size_N2.max(1, initial=1)
    pieces_M, budget = np.array(statistics.pieces_M, np.int64), text_len - 1
    lost = np.maximum(pieces_M - budget, 0)
    return {
        "source": source.spec,
        "split": source.split,
        "samples": source.num_examples,
        "looked_at": statistics.total,
        "good": len(size_N2),
        "bad": {
            reason: {
                "samples": count,
                "first": [sample_name(source, row) for row in statistics.bad.rows[reason]],
            }
            for reason, count in sorted(statistics.bad.counts.items(), key=lambda item: -item[1])
        },
        "repeated": {
            "images": _repeated(statistics.images),
            "captions": _repeated(statistics.captions),
            "pairs": _repeated(statistics.pairs),
        },
        "frequent_captions": [
            [text.decode("utf-8", errors="replace"), count]
            for text, count in statistics.captions.most_common(_FREQUENT)
            if count > 1
        ],
        "short_side": quantiles(short_N),
        "aspect": quantiles(long_N / np.maximum(short_N, 1)),
        "smaller_than_res": {"res": res, "samples": int((short_N < res).sum())},
        "image_bytes": quantiles(np.array(statistics.bytes_N)),
        "captions": {
            "number": len(pieces_M),
            "pieces": quantiles(pieces_M),
            "vocab": vocab,
            "budget": budget,
            "reduction": reduction,
            "shortened": int((lost > 0).sum()),
            "pieces_lost_percent": round(100 * float(lost.sum()) / max(pieces_M.sum(), 1), 2),
        },
    }


def quantiles(value_X: Sequence[float] | np.ndarray) -> dict[str, float]:
    """`QUANTILES` by name; empty for no values."""
    if len(value_X) == 0:
        return {}
    values = np.quantile(value_X, list(QUANTILES.values()))
    return {name: round(float(v), 2) for name, v in zip(QUANTILES, values, strict=True)}


def _repeated(occurrences: collections.Counter[bytes]) -> dict[str, Any]:
    """The number of repeated occurrences and their share."""
    total = sum(occurrences.values())
    again = total - len(occurrences)
    return {"number": again, "percent": round(100 * again / max(total, 1), 2)}

"""What is in a source: bad samples, sizes, captions against a budget of tokens, repetitions."""

import collections
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from clipa_jax.data.sources.base import Source
from clipa_jax.prepare.counters import Tally
from clipa_jax.prepare.report import sample_name
from clipa_jax.prepare.samples import Looker, digest
from clipa_jax.preprocess import decode
from clipa_jax.preprocess.text import Tokenizer

SPREAD = 64  # shards that a limited look is spread over, at least
QUANTILES = {"least": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "most": 1.0}
_BATCH = 512  # captions tokenized together
_FREQUENT = 5  # captions that are named


@dataclass
class Findings:
    """What was seen; lists grow with every sample.

    Attributes:
      bad: samples that cannot be used, by reason.
      size_N2: heights and widths of the others.
      bytes_N: of their encoded pictures.
      pieces_M: of their captions.
      images, captions, pairs: how often each was seen.
    """

    bad: Tally = field(default_factory=Tally)
    size_N2: list[tuple[int, int]] = field(default_factory=list)
    bytes_N: list[int] = field(default_factory=list)
    pieces_M: list[int] = field(default_factory=list)
    images: collections.Counter[bytes] = field(default_factory=collections.Counter)
    captions: collections.Counter[bytes] = field(default_factory=collections.Counter)
    pairs: collections.Counter[bytes] = field(default_factory=collections.Counter)

    @property
    def looked(self) -> int:
        """Samples seen, good and bad."""
        return len(self.size_N2) + sum(self.bad.counts.values())


def parts(source: Source, limit: int) -> list[tuple[int, int, int]]:
    """Which samples to look at: (shard, start, length), `limit` samples or all there are.

    A limited look takes as many samples from each of many shards in turn, so that it says
    something of the whole; always the same ones.
    """
    lengths = [shard.length for shard in source.shards]
    limit = min(limit or sum(lengths), sum(lengths))
    if limit == sum(lengths):
        return [(shard, 0, length) for shard, length in enumerate(lengths) if length]
    order = np.random.default_rng(0).permutation(len(lengths)).tolist()
    share = -(-limit // min(SPREAD, len(lengths)))
    found: list[tuple[int, int, int]] = []
    start = 0
    while limit:
        for shard in order:
            length = min(share, limit, lengths[shard] - start)
            if length > 0:
                found.append((shard, start, length))
                limit -= length
        start += share
    return sorted(found)


def look(
    source: Source, tokenizer: Tokenizer, limit: int = 0, max_pixels: int = decode.MAX_PIXELS
) -> Iterator[Findings]:
    """Looks at samples; yields the same findings, growing, after every hundred or so.

    Args:
      source: of the samples.
      tokenizer: counts the pieces of captions.
      limit: how many samples; 0 for all.
      max_pixels: of a picture; larger ones are not decoded.
    """
    looker, found = Looker(source, max_pixels=max_pixels), Findings()
    waiting: list[bytes] = []
    first_rows = np.cumsum([0, *(shard.length for shard in source.shards)])
    for shard, start, length in parts(source, limit):
        for seen in looker.look(shard, start, length):
            if seen.reason:
                found.bad.add(seen.reason, rows=[int(first_rows[shard]) + seen.row])
            else:
                found.size_N2.append((seen.height, seen.width))
                found.bytes_N.append(len(seen.image))
                found.images[digest(seen.image)] += 1
                found.pairs[digest(seen.image, *seen.captions)] += 1
                found.captions.update(seen.captions)
                waiting += seen.captions
            if len(waiting) >= _BATCH:
                found.pieces_M += _count(tokenizer, waiting)
                waiting = []
            if found.looked % 100 == 0:
                yield found
    found.pieces_M += _count(tokenizer, waiting) if waiting else []
    yield found


def _count(tokenizer: Tokenizer, texts: list[bytes]) -> list[int]:
    return tokenizer.pieces(tf.constant(texts)).row_lengths().numpy().tolist()


def summary(
    source: Source, found: Findings, *, res: int, text_len: int, reduction: str, vocab: str
) -> dict[str, Any]:
    """The findings as JSON has them.

    Args:
      source: that was looked at.
      found: in it.
      res: pixels a side that the config trains with.
      text_len: tokens of a row; its first one is not of the caption.
      reduction: of longer captions.
      vocab: of the tokenizer.
    """
    size_N2 = np.array(found.size_N2, np.int64).reshape(-1, 2)
    short_N, long_N = size_N2.min(1, initial=2**31), size_N2.max(1, initial=1)
    pieces_M, budget = np.array(found.pieces_M, np.int64), text_len - 1
    lost = np.maximum(pieces_M - budget, 0)
    return {
        "source": source.spec,
        "split": source.split,
        "samples": source.num_examples,
        "looked_at": found.looked,
        "good": len(size_N2),
        "bad": {
            reason: {
                "samples": count,
                "first": [sample_name(source, row) for row in found.bad.rows[reason]],
            }
            for reason, count in sorted(found.bad.counts.items(), key=lambda item: -item[1])
        },
        "repeated": {
            "images": _repeated(found.images),
            "captions": _repeated(found.captions),
            "pairs": _repeated(found.pairs),
        },
        "frequent_captions": [
            [text.decode("utf-8", errors="replace"), count]
            for text, count in found.captions.most_common(_FREQUENT)
            if count > 1
        ],
        "short_side": quantiles(short_N),
        "aspect": quantiles(long_N / np.maximum(short_N, 1)),
        "smaller_than_res": {"res": res, "samples": int((short_N < res).sum())},
        "image_bytes": quantiles(np.array(found.bytes_N)),
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
    """Some quantiles by name; none of nothing."""
    if len(value_X) == 0:
        return {}
    values = np.quantile(value_X, list(QUANTILES.values()))
    return {name: round(float(v), 2) for name, v in zip(QUANTILES, values, strict=True)}


def _repeated(seen: collections.Counter[bytes]) -> dict[str, Any]:
    """How many were seen before, and their share."""
    total = sum(seen.values())
    again = total - len(seen)
    return {"number": again, "percent": round(100 * again / max(total, 1), 2)}

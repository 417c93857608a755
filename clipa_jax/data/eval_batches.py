"""Batches and single pictures of an evaluation split, in the order of its files."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import tensorflow as tf

from clipa_jax.config.batch import IMAGE, MASK
from clipa_jax.data import bad_samples, feed, map_chunk, reading, robust_map, sources
from clipa_jax.data.order import FileOrder, Shards
from clipa_jax.errors import DataError


@dataclass(frozen=True)
class Split:
    """A split of a source as it is evaluated, in the order of its files."""

    source: str
    split: str
    preprocess: str  # ops that make "image"
    batch_size: int  # global
    features: tuple[str, ...] = ()  # passed on: labels, "id", "captions" (lists of bytes)

    def batches(
        self,
        *,
        start: int = 0,
        reasons: bool = False,
        process_index: int | None = None,
        process_count: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """One pass from a position on, alike on any number of hosts.

        Which host this is, and of how many, is asked of JAX if not given.

        Yields this host's rows of each global batch: "image", the features, and "_mask" bool, false
        for rows that only fill the last batch and for samples that could not be used; with
        `reasons` also "_reason", an index of `bad_samples.REASONS`.
        """
        index = jax.process_index() if process_index is None else process_index
        hosts = jax.process_count() if process_count is None else process_count
        share = reading.Share.of(self.batch_size, index, hosts)
        opened, chunks = _chunks(self, share, start)
        return _evaluate(opened, chunks, share, start, reasons)

    def pictures(self, position_N: np.ndarray) -> np.ndarray:
        """Some pictures, uint8 (N, R, R, 3), by their positions in the files; on one host.

        The ops that `batches` traced are used again.
        """
        chunk = reading.Share.of(self.batch_size, 0, 1).chunk
        opened, process = _process(self, chunk)
        position_U, row_N = np.unique(position_N, return_inverse=True)
        if position_U[-1] >= opened.num_examples:
            raise DataError(
                f"{opened.spec}, split {self.split}: {opened.num_examples} samples, but position "
                f"{position_U[-1]} is asked for"
            )
        # The last chunk is filled up with the first samples.
        row_CX = np.resize(np.arange(len(position_U)), (-(-len(position_U) // chunk), chunk))
        record_UF = reading.chosen(opened, position_U)
        chunks = tf.data.Dataset.from_tensor_slices(
            {"record": tf.gather(record_UF, row_CX), "count": position_U[row_CX]}
        )
        done = list(feed.Feed(process(chunks)))
        if any(np.any(part[map_chunk.REASON]) for part in done):
            raise DataError(f"{opened.spec}, split {self.split}: a sample that cannot be used")
        return np.concatenate([part[IMAGE].numpy() for part in done])[row_N]


@functools.lru_cache(maxsize=32)
def listed(source: str, split: str, features: tuple[str, ...]) -> sources.Source:
    """A split with these features, which is listed once for all that read it."""
    return sources.open(source, split, features)


@functools.lru_cache(maxsize=32)  # a split is evaluated many times
def _chunks(
    split: Split, share: reading.Share, start: int
) -> tuple[sources.Source, tf.data.Dataset]:
    opened, process = _process(split, share.chunk)
    return opened, process(reading.once(opened, share, start))


@functools.lru_cache(maxsize=32)
def _process(split: Split, chunk: int) -> tuple[sources.Source, robust_map.Process]:
    opened = listed(split.source, split.split, split.features)
    if isinstance(opened, sources.Mixture):
        raise DataError(f"{opened.spec}: a mixture has no order of files; name one source")
    opened.check_features(split.features)
    process, _ = robust_map.chunk_function(
        opened, split.preprocess, size=chunk, seed=0, keep=(IMAGE,), features=split.features
    )
    return opened, process


def _evaluate(
    source: sources.Source,
    dataset: tf.data.Dataset,
    share: reading.Share,
    start: int,
    reasons: bool,
) -> Iterator[dict[str, Any]]:
    total = source.num_examples
    order = FileOrder(Shards.of(source))
    seen = bad_samples.SkipCounter(source, order, max_percent=100.0, epoch=total)
    chunks = feed.Feed(dataset)
    for count in range(share.begin + start, share.begin + total, share.batch_size):
        parts = [next(chunks) for _ in range(share.chunks)]
        batch = {key: _joined([part[key] for part in parts]) for key in parts[0]}
        if robust_map.CAPTIONS in batch:
            batch[robust_map.CAPTIONS] = [_split(row) for row in batch[robust_map.CAPTIONS]]
        count_B = np.arange(count, count + len(batch[IMAGE]))
        reason_B = np.where(count_B < total, batch.pop(map_chunk.REASON), 0)
        seen.add(reason_B, count_B)
        if reasons:
            batch[map_chunk.REASON] = reason_B
        yield {**batch, MASK: (count_B < total) & (reason_B == 0)}


def _joined(parts: list[Any]) -> Any:
    """Chunks of one entry in one: an array, or a list where rows differ in length."""
    if isinstance(parts[0], tf.RaggedTensor):
        return [row for part in parts for row in part.to_list()]
    return np.concatenate([part.numpy() for part in parts])


def _split(captions: bytes) -> list[bytes]:
    return captions.split(robust_map.SEPARATOR.encode()) if captions else []

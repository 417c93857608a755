"""Batches and single pictures of an evaluation split, in the order of its files."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
import tensorflow as tf

from clipa_jax.config.batch import IMAGE, MASK
from clipa_jax.data import bad_samples, feed, map_chunk, reading, robust_map, sources
from clipa_jax.data.order import FileOrder, Shards
from clipa_jax.errors import DataError


def batches(
    source: str,
    split: str,
    preprocess: str,
    batch_size: int,
    *,
    features: Sequence[str] = (),
    start: int = 0,
    reasons: bool = False,
    process_index: int | None = None,
    process_count: int | None = None,
) -> Iterator[dict[str, Any]]:
    """One pass over a split in the order of its files from a position on, alike on any hosts.

    `preprocess` makes the image; `features` are entries that are passed on: labels, "id",
    "captions" (lists of bytes). Which host this is, and of how many, is asked of JAX if not given.

    Yields this host's rows of each global batch: "image", the features, and "_mask" bool, false for
    rows that only fill the last batch and for samples that could not be used; with `reasons` also
    "_reason", an index of `bad_samples.REASONS`.
    """
    index = jax.process_index() if process_index is None else process_index
    hosts = jax.process_count() if process_count is None else process_count
    share = reading.Share.of(batch_size, index, hosts)
    opened, chunks = _chunks(source, split, preprocess, tuple(features), share, start)
    return _evaluate(opened, chunks, share, start, reasons)


def pictures(
    source: str,
    split: str,
    preprocess: str,
    batch_size: int,
    position_N: np.ndarray,
    *,
    features: Sequence[str] = (),
) -> np.ndarray:
    """Some pictures of a split, uint8 (N, R, R, 3), by their positions in its files.

    The other arguments are those of `batches` on one host, whose traced ops are used again.
    """
    chunk = reading.Share.of(batch_size, 0, 1).chunk
    opened, process = _process(source, split, preprocess, tuple(features), chunk)
    position_U, row_N = np.unique(position_N, return_inverse=True)
    if position_U[-1] >= opened.num_examples:
        raise DataError(
            f"{opened.spec}, split {split}: {opened.num_examples} samples, but position "
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
        raise DataError(f"{opened.spec}, split {split}: a sample that cannot be used")
    return np.concatenate([part[IMAGE].numpy() for part in done])[row_N]


@functools.lru_cache(maxsize=32)
def listed(source: str, split: str, features: tuple[str, ...]) -> sources.Source:
    """A split with these features, which is listed once for all that read it."""
    return sources.open(source, split, features)


@functools.lru_cache(maxsize=32)  # a split is evaluated many times
def _chunks(
    source: str,
    split: str,
    preprocess: str,
    features: tuple[str, ...],
    share: reading.Share,
    start: int,
) -> tuple[sources.Source, tf.data.Dataset]:
    opened, process = _process(source, split, preprocess, features, share.chunk)
    return opened, process(reading.once(opened, share, start))


@functools.lru_cache(maxsize=32)
def _process(
    source: str, split: str, preprocess: str, features: tuple[str, ...], chunk: int
) -> tuple[sources.Source, robust_map.Process]:
    opened = listed(source, split, features)
    if isinstance(opened, sources.Mixture):
        raise DataError(f"{opened.spec}: a mixture has no order of files; name one source")
    opened.check_features(features)
    process, _ = robust_map.chunk_function(
        opened, preprocess, size=chunk, seed=0, keep=(IMAGE,), features=features
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

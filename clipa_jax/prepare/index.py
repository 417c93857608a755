"""The index of the samples: 56 bytes for each, which the shuffle moves instead of pictures.

A sample's key is its place in a permutation of all input samples that the seed chooses
(`data.shuffle`): keys are unique and need no table. The dataset is in the order of the keys.
Keys fall into at most 256 buckets; the sizes of the buckets before its own, and its place
in its sorted bucket, give the rank of a sample, and ranks give shards of even sizes.

X entries at hand.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from clipa_jax.data import shuffle
from clipa_jax.prepare.layout import Layout

BUCKETS = 256  # at most
BUCKET = 10_000  # keys of a bucket, at least
ENTRY = np.dtype(
    [
        ("row", "<i8"),  # place among all samples of the input
        ("key", "<i8"),  # place in the shuffled input
        ("piece", "<i4"),  # number of the partition that holds the record
        ("offset", "<i8"),  # of the record in the file of that partition
        ("length", "<u4"),  # of the record
        ("crc", "<u4"),  # of the record
        ("digest", "<u8", (2,)),  # equal for duplicates
        ("anew", "<u2"),  # whether the picture was encoded again
        ("left_out", "<u2"),  # number of dropped captions
    ]
)


def keys(row_X: np.ndarray, total: int, seed: int) -> np.ndarray:
    """The keys of input rows, int64 (X,), each in 0..total-1."""
    return shuffle.permute(row_X, total, shuffle.key(seed))


def join(parts: Iterable[bytes]) -> np.ndarray:
    """Entries from the bytes of several arrays."""
    return np.frombuffer(b"".join(parts), ENTRY)


def by_digest(entry_X: np.ndarray) -> Iterator[tuple[int, bytes]]:
    """Entries in buckets; equal digests share a bucket."""
    return _group(entry_X, (entry_X["digest"][:, 0] % BUCKETS).astype(np.int64))


def by_key(entry_X: np.ndarray, total: int) -> Iterator[tuple[int, bytes]]:
    """Entries in buckets of neighboring keys, of `total` keys."""
    return _group(entry_X, bucket(entry_X["key"], total))


def bucket(key_X: np.ndarray, total: int) -> np.ndarray:
    """The buckets of keys, int64 (X,), in the order of the keys."""
    return key_X // max(-(-total // BUCKETS), BUCKET)


def split_duplicates(entry_X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the first sample of each digest in the order of the input, all others)."""
    order = np.lexsort((entry_X["row"], entry_X["digest"][:, 1], entry_X["digest"][:, 0]))
    sorted_X = entry_X[order]
    same = (sorted_X["digest"][1:] == sorted_X["digest"][:-1]).all(1)
    again_X = np.concatenate([[False], same])[: len(sorted_X)]
    return sorted_X[~again_X], sorted_X[again_X]


def by_shard(entry_X: np.ndarray, before: int, layout: Layout) -> Iterator[tuple[int, bytes]]:
    """The entries of a whole bucket of keys by shard; `before` samples lie in earlier buckets."""
    sorted_X = entry_X[np.argsort(entry_X["key"])]
    return _group(sorted_X, layout.shards(before + np.arange(len(sorted_X))))


def _group(entry_X: np.ndarray, group_X: np.ndarray) -> Iterator[tuple[int, bytes]]:
    order = np.argsort(group_X, kind="stable")
    entry_X, group_X = entry_X[order], group_X[order]
    starts = np.flatnonzero(np.concatenate([[True], group_X[1:] != group_X[:-1]]))
    for start, stop in zip(starts, [*starts[1:], len(group_X)], strict=True):
        if stop > start:
            yield int(group_X[start]), entry_X[start:stop].tobytes()

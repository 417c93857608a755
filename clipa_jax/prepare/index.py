"""What the shuffle knows of each sample: where it lies, and where it goes. No pictures.

A sample's key is where a permutation of all input samples, chosen by the seed, sends it
(`data.shuffle`): no two samples share one, and no table is needed. The order of the dataset
is that of the keys. Its ranks, and with them shards whose sizes differ by one at most, follow
from counts: keys fall into a fixed number of buckets, the buckets before a sample's own
tell how many samples come before it, and inside its bucket it is sorted.

X facts looked at.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from clipa_jax.data import shuffle

BUCKETS = 256
FACT = np.dtype(
    [
        ("row", "<i8"),  # among all samples of the input, in its order
        ("key", "<i8"),  # its place in the shuffled input
        ("piece", "<i4"),  # the piece of the input it was read with
        ("offset", "<i8"),  # where its record lies in the file of that piece
        ("length", "<u4"),  # of the record
        ("crc", "<u4"),  # of the record
        ("digest", "<u8", (2,)),  # of what may be there only once
        ("anew", "<u2"),  # whether the picture was encoded anew
        ("left_out", "<u2"),  # captions that were left out
    ]
)


def keys(row_X: np.ndarray, total: int, seed: int) -> np.ndarray:
    """The keys of input rows, int64 (X,), each in 0..total-1."""
    return shuffle.permute(row_X, total, shuffle.key(seed))


def join(parts: Iterable[bytes]) -> np.ndarray:
    """Facts from the bytes of several arrays of them."""
    return np.frombuffer(b"".join(parts), FACT)


def by_digest(fact_X: np.ndarray) -> Iterator[tuple[int, bytes]]:
    """Facts in buckets, such that equal digests share one."""
    return _split(fact_X, (fact_X["digest"][:, 0] % BUCKETS).astype(np.int64))


def by_key(fact_X: np.ndarray, total: int) -> Iterator[tuple[int, bytes]]:
    """Facts in buckets of neighbouring keys, of which there are `total`."""
    return _split(fact_X, bucket(fact_X["key"], total))


def bucket(key_X: np.ndarray, total: int) -> np.ndarray:
    """The buckets of keys, int64 (X,), in the order of the keys."""
    return key_X // -(-total // BUCKETS)


def first_ones(fact_X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Parts facts into the first sample of each digest, in the order of the input, and the
    others."""
    order = np.lexsort((fact_X["row"], fact_X["digest"][:, 1], fact_X["digest"][:, 0]))
    sorted_X = fact_X[order]
    same = (sorted_X["digest"][1:] == sorted_X["digest"][:-1]).all(1)
    again_X = np.concatenate([[False], same])[: len(sorted_X)]
    return sorted_X[~again_X], sorted_X[again_X]


def by_shard(
    fact_X: np.ndarray, before: int, kept: int, num_shards: int
) -> Iterator[tuple[int, bytes]]:
    """The facts of one bucket of keys in the shards they go to, in order.

    Args:
      fact_X: all of the bucket's.
      before: how many samples the buckets before it hold.
      kept: how many samples there are.
      num_shards: of the dataset.
    """
    sorted_X = fact_X[np.argsort(fact_X["key"])]
    return _split(sorted_X, (before + np.arange(len(sorted_X))) * num_shards // kept)


def _split(fact_X: np.ndarray, where_X: np.ndarray) -> Iterator[tuple[int, bytes]]:
    order = np.argsort(where_X, kind="stable")
    fact_X, where_X = fact_X[order], where_X[order]
    starts = np.flatnonzero(np.concatenate([[True], where_X[1:] != where_X[:-1]]))
    for start, stop in zip(starts, [*starts[1:], len(where_X)], strict=True):
        if stop > start:
            yield int(where_X[start]), fact_X[start:stop].tobytes()

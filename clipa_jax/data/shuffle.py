"""Shuffles that are computed, not stored: keyed permutations of 0..n-1.

Any element of a permutation can be computed alone, so a run can resume in the middle of an epoch
of billions of samples at no cost.
"""

import numpy as np

_ROUNDS = 6
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def key(*parts: int) -> np.uint64:
    """A well-mixed key of whole numbers, e.g. (seed, epoch, shard)."""
    mixed = np.zeros(1, np.uint64)
    for part in parts:
        mixed = _mix(mixed + _GOLDEN + np.array([part], np.int64).astype(np.uint64))
    return mixed[0]


def keys(base: np.uint64, parts_X: np.ndarray) -> np.ndarray:
    """`key` continued by one more part for each element: uint64 (X,)."""
    return _mix(np.full(len(parts_X), base) + _GOLDEN + parts_X.astype(np.uint64))


def permute(index_X: np.ndarray, size_X: np.ndarray | int, key_X: np.ndarray | np.uint64):
    """The images int64 (X,) of elements int64 (X,) of 0..size-1 under permutations of that size,
    which the keys, uint64, name. Sizes and keys are one for all, or (X,)."""
    size_X = np.broadcast_to(np.asarray(size_X, np.uint64), index_X.shape)
    key_X = np.broadcast_to(key_X, index_X.shape)
    # A Feistel network permutes 0..4^b-1; a value at or beyond the size is permuted again.
    bits_X = np.frexp(size_X.astype(np.float64) - 1)[1]
    half_X = np.maximum((bits_X + 1) // 2, 1).astype(np.uint64)
    value_X = index_X.astype(np.uint64)
    todo = np.arange(len(value_X))
    while len(todo):
        value_X[todo] = _feistel(value_X[todo], half_X[todo], key_X[todo])
        todo = todo[value_X[todo] >= size_X[todo]]
    return value_X.astype(np.int64)


def _feistel(value_X: np.ndarray, half_X: np.ndarray, key_X: np.ndarray) -> np.ndarray:
    mask_X = (np.uint64(1) << half_X) - np.uint64(1)
    left_X, right_X = value_X >> half_X, value_X & mask_X
    for number in range(_ROUNDS):
        mixed_X = _mix(right_X * _GOLDEN + key_X + np.uint64(number))
        left_X, right_X = right_X, left_X ^ (mixed_X & mask_X)
    return (left_X << half_X) | right_X


def _mix(x: np.ndarray) -> np.ndarray:
    """The finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), modulo 2^64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))

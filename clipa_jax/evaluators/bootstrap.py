"""Confidence intervals of a score and of the difference of two scores.

Efron's percentile bootstrap: the statistic is computed again on N samples drawn with replacement;
the interval lies between the percentiles 2.5 and 97.5 of many draws.

Samples with equal values are of one kind, and a draw is determined by its count of each kind:
for 50,000 answers that are right or wrong, by one binomial number. The distribution is that of
drawing samples one by one.

Pure numpy. N samples, U units that are drawn, K kinds of unit, C classes, R draws.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from clipa_jax.evaluators.outcome import Outcome

DRAWS = 1_000
LEVEL = 0.95
_MAX_NUMBERS = 1 << 22  # held in memory at a time
UNITS_PER_KIND = 16  # from this average on, counts of kinds are drawn instead of units
# Of these, counts of each kind suffice for a draw. Other statistics are computed for each draw.
WEIGHTED_MEANS = ("mean", "class_mean")


@dataclass(frozen=True)
class Difference:
    """The statistics `a` and `b` of `count` common samples, and b - a with its interval."""

    a: float
    b: float
    value: float
    low: float
    high: float
    count: int


def interval(outcome: Outcome, *, draws: int = DRAWS, seed: int = 0) -> tuple[float, float] | None:
    """The 95 % interval of a metric; None with fewer than two units to draw from.

    An accuracy of 0 or 1 has an interval of width 0, since all draws are equal. The same seed
    gives the same interval.
    """
    units = outcome.ids if outcome.unit_N is None else np.unique(outcome.unit_N)
    if len(units) < 2 or not np.isfinite(outcome.value):
        return None
    return _bounds(replicates(outcome, draws=draws, seed=seed))


def difference(a: Outcome, b: Outcome, *, draws: int = DRAWS, seed: int = 0) -> Difference | None:
    """b - a on the common samples, with its 95 % interval; None without common samples.

    The same samples are drawn for both, so that the difficulty of a sample cancels out. Raises
    `ValueError` for different statistics.
    """
    if a.kind != b.kind:
        raise ValueError(f"{a.kind} cannot be compared with {b.kind} sample by sample")
    _, rows_a, rows_b = np.intersect1d(a.ids, b.ids, assume_unique=True, return_indices=True)
    if not len(rows_a):
        return None
    a, b = a.only(rows_a), b.only(rows_b)
    low, high = _bounds(replicates(a, b, draws=draws, seed=seed)) or (np.nan, np.nan)
    return Difference(a.value, b.value, b.value - a.value, low, high, a.count)


def replicates(
    outcome: Outcome, other: Outcome | None = None, *, draws: int = DRAWS, seed: int = 0
) -> np.ndarray:
    """The statistic of each draw, float64 (R,); of `other` minus `outcome`, if it is given.

    Both must have the same samples in the same order.
    """
    rng = np.random.default_rng(seed)
    unit_N = np.arange(outcome.count)
    if outcome.unit_N is not None:
        _, unit_N = np.unique(outcome.unit_N, return_inverse=True)
    if outcome.kind not in WEIGHTED_MEANS:
        return _one_by_one(rng, draws, unit_N, outcome, other)
    weight_N = _weights(outcome, other)
    value_N = np.asarray(outcome.arrays["value_N"], np.float64)
    if other is not None:
        value_N = np.asarray(other.arrays["value_N"], np.float64) - value_N
    # The distinct units by their sums of samples and of weights, and the kind of each unit.
    sums_U2 = np.stack([np.bincount(unit_N, x_N) for x_N in (weight_N * value_N, weight_N)], axis=1)
    kinds_K2, kind_U = np.unique(sums_U2, axis=0, return_inverse=True)
    sum_K, size_K = kinds_K2.T
    counts = _counts(rng, draws, kind_U.reshape(-1))
    return np.concatenate([(count_RK @ sum_K) / (count_RK @ size_K) for count_RK in counts])


def _weights(outcome: Outcome, other: Outcome | None) -> np.ndarray:
    """1, or for a mean over classes 1 / the size of the sample's class among all samples.

    A mean over the classes of a draw would vary too little: with one sample a class, by a quarter.
    """
    class_N = outcome.arrays.get("class_N")
    if class_N is None:
        return np.ones(outcome.count)
    if other is not None and np.any(class_N != other.arrays["class_N"]):
        raise ValueError("the common samples have different classes in the two")
    _, index_N, size_C = np.unique(class_N, return_inverse=True, return_counts=True)
    return 1 / size_C[index_N]


def _counts(rng: np.random.Generator, draws: int, kind_U: np.ndarray) -> Iterator[np.ndarray]:
    """Counts of each kind in the draws, int (R, K), some draws at a time."""
    units, size_K = len(kind_U), np.bincount(kind_U)
    kinds = len(size_K)
    if kinds * UNITS_PER_KIND <= units:
        for count in _chunks(draws, kinds):
            yield rng.multinomial(units, size_K / units, size=count)
        return
    for count in _chunks(draws, units):
        kind_RU = kind_U[rng.integers(0, units, (count, units), dtype=np.int32)]
        kind_RU += kinds * np.arange(count)[:, None]
        yield np.bincount(kind_RU.ravel(), minlength=count * kinds).reshape(count, kinds)


def _one_by_one(
    rng: np.random.Generator,
    draws: int,
    unit_N: np.ndarray,
    outcome: Outcome,
    other: Outcome | None,
) -> np.ndarray:
    """Any statistic, computed for each draw."""
    rows_U = np.split(np.argsort(unit_N, kind="stable"), np.cumsum(np.bincount(unit_N))[:-1])
    values = []
    for _ in range(draws):
        rows = np.concatenate([rows_U[u] for u in rng.integers(0, len(rows_U), len(rows_U))])
        value = outcome.statistic(rows)
        values.append(value if other is None else other.statistic(rows) - value)
    return np.asarray(values)


def _chunks(draws: int, width: int) -> Iterator[int]:
    size = max(_MAX_NUMBERS // width, 1)
    for start in range(0, draws, size):
        yield min(size, draws - start)


def _bounds(value_R: np.ndarray) -> tuple[float, float] | None:
    if not np.all(np.isfinite(value_R)):
        return None
    low, high = np.quantile(value_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)

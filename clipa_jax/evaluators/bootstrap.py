"""Confidence intervals of a score and of the difference of two scores.

Efron's percentile bootstrap: the statistic is computed again on N samples drawn with replacement;
the interval lies between the percentiles 2.5 and 97.5 of many draws.

Samples with equal values are of one kind, and a draw is determined by its count of each kind:
for 50,000 answers that are right or wrong, by one binomial number. The distribution is that of
drawing samples one by one.

Pure numpy. N samples, U units that are drawn, K kinds of unit, C classes, R draws.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from clipa_jax.evaluators.outcome import PLAIN, Outcome

DRAWS = 1_000
LEVEL = 0.95
_MAX_NUMBERS = 1 << 22  # held in memory at a time
UNITS_PER_KIND = 16  # from this average on, counts of kinds are drawn instead of units
Kinds = tuple[tuple[np.ndarray, ...], np.ndarray]  # (columns of K rows each), kind of each unit


@dataclass(frozen=True)
class Difference:
    """The difference of two statistics on their common samples.

    Attributes:
      a, b: the statistic of those samples.
      value: b - a.
      low, high: its interval.
      count: of the common samples.
    """

    a: float
    b: float
    value: float
    low: float
    high: float
    count: int


def interval(outcome: Outcome, *, draws: int = DRAWS, seed: int = 0) -> tuple[float, float] | None:
    """The 95 % interval of a metric; None without samples to draw from.

    An accuracy of 0 or 1 has an interval of width 0, since all draws are equal.

    Args:
      outcome: the metric.
      draws: R.
      seed: of the draws; the same seed gives the same interval.
    """
    if outcome.kind == PLAIN or _num_units(outcome) < 2 or not np.isfinite(outcome.value):
        return None
    return _bounds(replicates(outcome, draws=draws, seed=seed))


def difference(a: Outcome, b: Outcome, *, draws: int = DRAWS, seed: int = 0) -> Difference | None:
    """b - a on the common samples, with its 95 % interval; None without common samples.

    The same samples are drawn for both, so that the difficulty of a sample cancels out.

    Raises:
      ValueError: different statistics.
    """
    if a.kind != b.kind:
        raise ValueError(f"{a.kind} cannot be compared with {b.kind} sample by sample")
    if a.ids is None or b.ids is None:
        return None
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

    Args:
      outcome: a metric with samples.
      other: the same metric with the same samples in the same order.
      draws: R.
      seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    if outcome.kind not in WEIGHTS:
        return _one_by_one(rng, draws, outcome, other)
    weight_N, value_N = WEIGHTS[outcome.kind](outcome, other), _values(outcome, other)
    columns_K, kind_U = _kinds(_units(outcome, [weight_N * value_N, weight_N]))
    sum_K, size_K = columns_K
    counts = _counts(rng, draws, kind_U)
    return np.concatenate([(count_RK @ sum_K) / (count_RK @ size_K) for count_RK in counts])


def _equal_weights(outcome: Outcome, other: Outcome | None) -> np.ndarray:
    del other
    return np.ones(outcome.count)


def _class_weights(outcome: Outcome, other: Outcome | None) -> np.ndarray:
    """1 / the size of the sample's class among all samples, not among those of a draw.

    A mean over the classes of a draw would vary too little: with one sample a class, by a quarter.
    """
    class_N = outcome.arrays["class_N"]
    if other is not None and np.any(class_N != other.arrays["class_N"]):
        raise ValueError("the common samples have different classes in the two")
    _, index_N, size_C = np.unique(class_N, return_inverse=True, return_counts=True)
    return 1 / size_C[index_N]


# Weights (N,) of statistics that are weighted means: counts of each kind suffice for a draw. Other
# statistics are computed for each draw.
WEIGHTS: dict[str, Callable[[Outcome, Outcome | None], np.ndarray]] = {
    "mean": _equal_weights,
    "class_mean": _class_weights,
}


def _units(outcome: Outcome, columns_N: list[np.ndarray]) -> list[np.ndarray]:
    """Sums of each column over the samples that are drawn together, (U,)."""
    if outcome.unit_N is None:
        return columns_N
    _, unit_N = np.unique(outcome.unit_N, return_inverse=True)
    return [np.bincount(unit_N, weights=column_N) for column_N in columns_N]


def _values(outcome: Outcome, other: Outcome | None) -> np.ndarray:
    value_N = np.asarray(outcome.arrays["value_N"], np.float64)
    return value_N if other is None else np.asarray(other.arrays["value_N"], float) - value_N


def _kinds(columns: list[np.ndarray]) -> Kinds:
    """The distinct rows, sorted, and the number of each unit's row among them."""
    rows_U = np.stack([np.asarray(column, np.float64) for column in columns], axis=1)
    rows_K, kind_U = np.unique(rows_U, axis=0, return_inverse=True)
    return tuple(rows_K.T), kind_U.reshape(-1)


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
    rng: np.random.Generator, draws: int, outcome: Outcome, other: Outcome | None
) -> np.ndarray:
    """Any statistic, computed for each draw."""
    unit_N = np.arange(outcome.count) if outcome.unit_N is None else outcome.unit_N
    rows_N = np.argsort(unit_N, kind="stable")
    starts_U = np.flatnonzero(np.diff(unit_N[rows_N], prepend=unit_N[rows_N[0]] - 1))
    sizes_U = np.diff(starts_U, append=len(unit_N))
    values = []
    for _ in range(draws):
        drawn_U = rng.integers(0, len(starts_U), len(starts_U))
        size_U = sizes_U[drawn_U]
        # Positions of the units' samples in `rows_N`, unit by unit.
        first = np.repeat(starts_U[drawn_U] - np.cumsum(size_U) + size_U, size_U)
        rows = rows_N[first + np.arange(size_U.sum())]
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


def _num_units(outcome: Outcome) -> int:
    return outcome.count if outcome.unit_N is None else len(np.unique(outcome.unit_N))

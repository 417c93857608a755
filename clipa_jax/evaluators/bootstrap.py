"""How far a score, or the difference of two, could be off by the choice of samples.

Efron's percentile bootstrap: as many samples as there are, drawn with replacement, give the
statistic anew, and between the percentiles 2.5 and 97.5 of many such draws lies the interval.

Samples that are alike to the statistic are of one kind, and only how many of each kind a draw
has matters: 50,000 answers that are right or wrong are of two kinds, so a draw is one number of
the binomial distribution. That is the same distribution as drawing them one by one.

Pure numpy. N samples, U units that are drawn, K kinds of unit, C classes, R draws.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from clipa_jax.evaluators.outcome import PLAIN, Outcome

DRAWS = 1_000
LEVEL = 0.95
_AT_ONCE = 1 << 22  # numbers held at a time
_WORTH_COUNTING = 16  # units of each kind, on average, from which on one draws their counts
Kinds = tuple[tuple[np.ndarray, ...], np.ndarray]  # (columns of K rows each), kind of each unit


@dataclass(frozen=True)
class Difference:
    """What b has more than a on the samples that both have.

    Attributes:
      a, b: the statistic of those samples.
      value: b - a.
      low, high: its interval.
      count: of the samples.
    """

    a: float
    b: float
    value: float
    low: float
    high: float
    count: int


def interval(outcome: Outcome, *, draws: int = DRAWS, seed: int = 0) -> tuple[float, float] | None:
    """The 95 % interval of a metric; None where it has no samples to draw from.

    A statistic that gives all samples the same, such as an accuracy of 0 or 1, has an interval of
    no width: what the samples do not contain, no draw of them can show.

    Args:
      outcome: the metric.
      draws: R.
      seed: of the draws; the same seed gives the same interval.
    """
    if outcome.kind == PLAIN or _num_units(outcome) < 2 or not np.isfinite(outcome.value):
        return None
    return _bounds(replicates(outcome, draws=draws, seed=seed))


def difference(a: Outcome, b: Outcome, *, draws: int = DRAWS, seed: int = 0) -> Difference | None:
    """What `b` has more than `a` on the samples that both have, with its 95 % interval.

    The same samples are drawn for both, so what makes a sample hard for both cancels out. None
    without samples that both have.

    Raises:
      ValueError: they are not the same statistic.
    """
    if a.kind != b.kind:
        raise ValueError(f"{a.kind} cannot be compared with {b.kind} sample by sample")
    if a.ids is None or b.ids is None:
        return None
    _, rows_a, rows_b = np.intersect1d(a.ids, b.ids, assume_unique=True, return_indices=True)
    if not len(rows_a):
        return None
    a, b = a.only(rows_a), b.only(rows_b)
    found = replicates(a, b, draws=draws, seed=seed)
    low, high = _bounds(found) or (np.nan, np.nan)
    return Difference(a.value, b.value, b.value - a.value, low, high, a.count)


def replicates(
    outcome: Outcome, other: Outcome | None = None, *, draws: int = DRAWS, seed: int = 0
) -> np.ndarray:
    """The statistic of each draw, float64 (R,); what `other` has more, where it is given.

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
    columns_K, kind_U = _alike(_units(outcome, [weight_N * value_N, weight_N]))
    sum_K, size_K = columns_K
    counts = _counts(rng, draws, kind_U)
    return np.concatenate([(count_RK @ sum_K) / (count_RK @ size_K) for count_RK in counts])


def _equal_weights(outcome: Outcome, other: Outcome | None) -> np.ndarray:
    del other
    return np.ones(outcome.count)


def _class_weights(outcome: Outcome, other: Outcome | None) -> np.ndarray:
    """1 / samples of the class, as in all the samples, not as in a draw.

    A class of one sample cannot be drawn half, so a mean over the drawn classes would vary too
    little: with one sample a class, by a quarter.
    """
    class_N = outcome.arrays["class_N"]
    if other is not None and np.any(class_N != other.arrays["class_N"]):
        raise ValueError("the same samples are of other classes in the two")
    _, index_N, size_C = np.unique(class_N, return_inverse=True, return_counts=True)
    return 1 / size_C[index_N]


# Statistics that are a mean with weights, (N,), in which a draw is only its counts of each kind of
# sample; of the others each draw is computed.
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


def _alike(columns: list[np.ndarray]) -> Kinds:
    """The rows that differ, sorted, and which of them each unit is."""
    rows_U = np.stack([np.asarray(column, np.float64) for column in columns], axis=1)
    rows_K, kind_U = np.unique(rows_U, axis=0, return_inverse=True)
    return tuple(rows_K.T), kind_U.reshape(-1)


def _counts(rng: np.random.Generator, draws: int, kind_U: np.ndarray) -> Iterator[np.ndarray]:
    """How many units of each kind the draws have, int (R, K), some draws at a time."""
    units, size_K = len(kind_U), np.bincount(kind_U)
    kinds = len(size_K)
    if kinds * _WORTH_COUNTING <= units:
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
    """Any statistic: it is computed for each draw."""
    unit_N = np.arange(outcome.count) if outcome.unit_N is None else outcome.unit_N
    rows_N = np.argsort(unit_N, kind="stable")
    starts_U = np.flatnonzero(np.diff(unit_N[rows_N], prepend=unit_N[rows_N[0]] - 1))
    sizes_U = np.diff(starts_U, append=len(unit_N))
    found = []
    for _ in range(draws):
        drawn_U = rng.integers(0, len(starts_U), len(starts_U))
        size_U = sizes_U[drawn_U]
        # The places of the units' samples in `rows_N`, one unit after the other.
        first = np.repeat(starts_U[drawn_U] - np.cumsum(size_U) + size_U, size_U)
        rows = rows_N[first + np.arange(size_U.sum())]
        other_value = 0.0 if other is None else other.statistic(rows)
        value = outcome.statistic(rows)
        found.append(value if other is None else other_value - value)
    return np.asarray(found)


def _chunks(draws: int, width: int) -> Iterator[int]:
    size = max(_AT_ONCE // width, 1)
    for start in range(0, draws, size):
        yield min(size, draws - start)


def _bounds(found_R: np.ndarray) -> tuple[float, float] | None:
    if not np.all(np.isfinite(found_R)):
        return None
    low, high = np.quantile(found_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _num_units(outcome: Outcome) -> int:
    return outcome.count if outcome.unit_N is None else len(np.unique(outcome.unit_N))

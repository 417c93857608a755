"""A metric with its value per sample, for resampling and paired comparison.

A statistic is a function of arrays with a row for each sample. It is chosen by name, so that the
arrays can be stored and the statistic computed again from them. N samples, C classes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clipa_jax.evaluators.scores import check_some


def mean(value_N: np.ndarray) -> float:
    """The mean of one number a sample, for example of 1 for right and 0 for wrong."""
    check_some(value_N)
    return float(np.mean(value_N))


def class_mean(value_N: np.ndarray, class_N: np.ndarray) -> float:
    """The mean over classes of the mean of each; classes without a sample are left out.

    As in scikit-learn's `balanced_accuracy_score`.
    """
    check_some(value_N)
    classes, index_N = np.unique(class_N, return_inverse=True)
    sum_C = np.bincount(index_N, weights=value_N, minlength=len(classes))
    return float(np.mean(sum_C / np.bincount(index_N)))


def mean_average_precision(score_NC: np.ndarray, right_NC: np.ndarray) -> float:
    """The mean over classes of the area under precision against recall, by steps.

    As scikit-learn's `average_precision_score`: pictures of equal scores count together, so the
    value does not depend on their order. Classes without a right picture are left out; a score
    that is not a number is below every number.
    """
    check_some(score_NC)
    present_C = right_NC.any(axis=0)
    if not np.any(present_C):
        raise ValueError("no picture is right for any class: the mean over nothing is undefined")
    score_NC = np.where(np.isnan(score_NC), -np.inf, score_NC)
    columns = np.flatnonzero(present_C)
    return float(np.mean([_average_precision(score_NC[:, c], right_NC[:, c]) for c in columns]))


def _average_precision(score_N: np.ndarray, right_N: np.ndarray) -> float:
    order = np.argsort(-score_N, kind="stable")
    hits_N, score_N = np.cumsum(right_N[order]), score_N[order]
    last_T = np.flatnonzero(np.append(score_N[1:] != score_N[:-1], True))  # of each equal run
    precision_T = hits_N[last_T] / (last_T + 1)
    gained_T = np.diff(hits_N[last_T], prepend=0)
    return float(np.sum(precision_T * gained_T) / hits_N[-1])


# By name; each is a function of arrays with N rows.
STATISTICS: dict[str, Callable[..., float]] = {
    "mean": mean,
    "class_mean": class_mean,
    "mean_average_precision": mean_average_precision,
}


@dataclass(frozen=True)
class Outcome:
    """One metric of one evaluation: a statistic of N samples."""

    value: float
    ids: np.ndarray  # of the samples, strings (N,), no two the same
    kind: str  # name of the statistic in `STATISTICS`
    arrays: Mapping[str, np.ndarray]  # arguments of the statistic by name, N rows each
    # int (N,): samples that are not independent, such as the captions of one picture, share a
    # number and are drawn together; None if all are independent.
    unit_N: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        kind: str,
        ids: Sequence[str] | np.ndarray,
        *,
        unit_N: np.ndarray | None = None,
        **arrays: np.ndarray,
    ) -> "Outcome":
        """The outcome of a statistic; see the attributes.

        Raises `ValueError` for arrays of another length, or ids that repeat.
        """
        ids = np.asarray(ids, np.str_)
        units = {} if unit_N is None else {"unit_N": unit_N}
        lengths = {name: len(array) for name, array in (arrays | units).items()}
        if set(lengths.values()) != {len(ids)}:
            raise ValueError(f"{kind}: {len(ids)} ids for arrays of lengths {lengths}")
        if len(np.unique(ids)) != len(ids):
            raise ValueError(f"{kind}: {len(ids)} ids of which {len(np.unique(ids))} differ")
        return cls(STATISTICS[kind](**arrays), ids, kind, arrays, unit_N)

    @classmethod
    def mean(
        cls,
        ids: Sequence[str] | np.ndarray,
        value_N: np.ndarray,
        unit_N: np.ndarray | None = None,
    ) -> "Outcome":
        """The mean of a number a sample."""
        return cls.of("mean", ids, unit_N=unit_N, value_N=value_N)

    @property
    def count(self) -> int:
        """N."""
        return len(self.ids)

    def statistic(self, rows: np.ndarray) -> float:
        """The statistic of rows given by number, with repetition."""
        return STATISTICS[self.kind](**{name: array[rows] for name, array in self.arrays.items()})

    def only(self, rows: np.ndarray) -> "Outcome":
        """The metric on a subset of the samples; keeps the value where that is all of them."""
        value = self.value if len(rows) == self.count else self.statistic(rows)
        arrays = {name: array[rows] for name, array in self.arrays.items()}
        unit_N = None if self.unit_N is None else self.unit_N[rows]
        return Outcome(value, self.ids[rows], self.kind, arrays, unit_N)


def unique_ids(ids: Sequence[str]) -> list[str]:
    """Distinct ids: an empty one becomes its position, `#3`, a second of the same id `id#2`."""
    seen: dict[str, int] = {}
    unique = []
    for position, given in enumerate(ids):
        name = given or f"#{position}"
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return unique if len(set(unique)) == len(unique) else [f"#{n}" for n in range(len(unique))]

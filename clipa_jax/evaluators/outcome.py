"""What a metric came to, sample by sample, so that it can be resampled and compared in pairs.

A statistic is a function of arrays that have a row for each sample. It is chosen by name, so
that the rows can be stored as plain arrays and the statistic be computed again from them.
N samples, C classes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

PLAIN = "plain"


def mean(value_N: np.ndarray) -> float:
    """The mean of one number a sample, for example of 1 for right and 0 for wrong."""
    _check_some(value_N)
    return float(np.mean(value_N))


def class_mean(value_N: np.ndarray, class_N: np.ndarray) -> float:
    """The mean over classes of the mean of each; classes without a sample are left out.

    As in scikit-learn's `balanced_accuracy_score`.
    """
    _check_some(value_N)
    classes, index_N = np.unique(class_N, return_inverse=True)
    sum_C = np.bincount(index_N, weights=value_N, minlength=len(classes))
    return float(np.mean(sum_C / np.bincount(index_N)))


def mean_average_precision(score_NC: np.ndarray, right_NC: np.ndarray) -> float:
    """The mean over classes of the area under precision against recall, by steps.

    As scikit-learn's `average_precision_score`: pictures of equal scores count together, so the
    value does not depend on their order. Classes without a right picture are left out; a score
    that is not a number is below every number.
    """
    _check_some(score_NC)
    there_C = right_NC.any(axis=0)
    if not np.any(there_C):
        raise ValueError("no picture is right for any class: the mean over nothing is undefined")
    score_NC = np.where(np.isnan(score_NC), -np.inf, score_NC)
    columns = np.flatnonzero(there_C)
    return float(np.mean([_average_precision(score_NC[:, c], right_NC[:, c]) for c in columns]))


def _average_precision(score_N: np.ndarray, right_N: np.ndarray) -> float:
    order = np.argsort(-score_N, kind="stable")
    found_N, score_N = np.cumsum(right_N[order]), score_N[order]
    last_T = np.flatnonzero(np.append(score_N[1:] != score_N[:-1], True))  # of each equal run
    precision_T = found_N[last_T] / (last_T + 1)
    gained_T = np.diff(found_N[last_T], prepend=0)
    return float(np.sum(precision_T * gained_T) / found_N[-1])


# By name; a metric of another form adds its own function of arrays with N rows.
STATISTICS: dict[str, Callable[..., float]] = {
    "mean": mean,
    "class_mean": class_mean,
    "mean_average_precision": mean_average_precision,
}


@dataclass(frozen=True)
class Outcome:
    """One metric of one evaluation.

    Attributes:
      value: the statistic of all samples.
      ids: of the samples, strings (N,), no two the same; None for a number without samples.
      kind: name of the statistic in `STATISTICS`, or "plain".
      arrays: what the statistic takes, by the names of its arguments; each has N rows.
      unit_N: int (N,), samples that are not independent, such as the captions of one picture,
        share a number and are drawn together; None where each stands for itself.
    """

    value: float
    ids: np.ndarray | None = None
    kind: str = PLAIN
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
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
        """Any statistic by its name.

        Args:
          kind: in `STATISTICS`.
          ids: of the N samples, no two the same; see `unique_ids`.
          unit_N: which samples are drawn together, see the attribute.
          **arrays: its arguments, N rows each.

        Raises:
          ValueError: arrays of another length, or ids that repeat.
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

    @classmethod
    def class_mean(
        cls, ids: Sequence[str] | np.ndarray, value_N: np.ndarray, class_N: np.ndarray
    ) -> "Outcome":
        """The mean over classes of their means: with 1 for right and 0 for wrong, mean recall."""
        return cls.of("class_mean", ids, value_N=value_N, class_N=class_N)

    @classmethod
    def plain(cls, value: float) -> "Outcome":
        """A number that has no samples, and so no interval."""
        return cls(float(value))

    @property
    def count(self) -> int:
        """N; 0 without samples."""
        return 0 if self.ids is None else len(self.ids)

    def statistic(self, rows_N: np.ndarray) -> float:
        """The statistic of any multiset of rows, given by their numbers."""
        if self.kind == PLAIN:
            raise ValueError("a number without samples cannot be resampled")
        return STATISTICS[self.kind](**{name: rows[rows_N] for name, rows in self.arrays.items()})

    def only(self, rows: np.ndarray) -> "Outcome":
        """The same metric of some of the samples, each once; itself where these are all."""
        if self.ids is None or self.kind == PLAIN:
            raise ValueError("a number without samples has no part of them")
        part = {name: array[rows] for name, array in self.arrays.items()}
        unit_N = None if self.unit_N is None else self.unit_N[rows]
        all_of_them = len(rows) == self.count
        value = self.value if all_of_them else STATISTICS[self.kind](**part)
        return Outcome(value, self.ids[rows], self.kind, part, unit_N)


def unique_ids(ids: Sequence[str]) -> list[str]:
    """Ids of which no two are the same, whatever the data gives.

    Args:
      ids: as read; a sample without any (`""`) gets its place, `#3`, and the second of the
        same id becomes `id#2`.
    """
    seen: dict[str, int] = {}
    unique = []
    for place, given in enumerate(ids):
        one = given or f"#{place}"
        seen[one] = seen.get(one, 0) + 1
        unique.append(one if seen[one] == 1 else f"{one}#{seen[one]}")
    return unique if len(set(unique)) == len(unique) else [f"#{n}" for n in range(len(unique))]


def _check_some(rows: np.ndarray) -> None:
    if len(rows) == 0:
        raise ValueError("no samples: the mean over nothing is undefined")

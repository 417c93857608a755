"""Repeats of a setting, averaged over seeds: means, standard errors and intervals.

Rows of one group that differ in any other key are refused. Rows of different data, or with scores
that are not comparable, form groups of their own, with a letter and a note.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from clipa_jax.errors import DataError, nearest
from clipa_jax.evaluation import comparability
from clipa_jax.report.rows import COSTS, Row, varying
from clipa_jax.training import headlines

CONFIDENCE = 0.95
STAGE = "stage"
USUAL = ("zero_shot_top1", "zero_shot_top5")  # headlines


@dataclass(frozen=True)
class Estimate:
    """A mean over `count` repeats, its standard error and 95 % interval (Student's t).

    A single repeat has no error, and the interval of its evaluation, None without one.
    """

    mean: float
    error: float | None
    low: float | None
    high: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        """The estimate from independent values, such as those of several seeds."""
        mean, count = float(np.mean(values)), len(values)
        if count < 2:
            return cls(mean, None, None, None, count)
        error = float(np.std(values, ddof=1)) / math.sqrt(count)
        half = float(special.stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * error
        return cls(mean, error, mean - half, mean + half, count)


@dataclass(frozen=True)
class Group:
    """Repeats of one setting, told from other groups by the values in `by`.

    `data` is a letter where rows of this setting are not comparable, else "".
    """

    by: Mapping[str, Any]
    data: str
    rows: tuple[Row, ...]

    def score(self, metric: str) -> Estimate | None:
        """The estimate over the rows that have the metric; None if none has."""
        scored = [row for row in self.rows if metric in row.scores]
        if not scored:
            return None
        estimate = Estimate.of([row.scores[metric] for row in scored])
        if len(scored) == 1 and metric in scored[0].intervals:
            return Estimate(estimate.mean, None, *scored[0].intervals[metric], 1)
        return estimate

    def cost(self, key: str) -> float | None:
        """The mean of a cost; None if any row lacks it."""
        costs = [cost for row in self.rows if (cost := row.costs.get(key)) is not None]
        return float(np.mean(costs)) if len(costs) == len(self.rows) else None


def of_stage(rows: Sequence[Row], stage: str) -> list[Row]:
    """The rows of a stage; with "" the last stage of each run."""
    if not stage:
        return list({row.run: row for row in rows}.values())
    chosen = [row for row in rows if row.stage == stage]
    if not chosen:
        raise DataError(f"no stage {stage!r}; {nearest(stage, {row.stage for row in rows})}")
    return chosen


def metrics_of(rows: Sequence[Row], wanted: Sequence[str]) -> list[str]:
    """The wanted metrics; by default zero-shot accuracy where rows have it, else any metric."""
    metrics = {key for row in rows for key in row.scores}
    for metric in wanted:
        if metric not in metrics:
            raise DataError(f"no run has the metric {metric!r}; {nearest(metric, metrics)}")
    types = {k: v for row in rows for k, v in row.data.items() if k.endswith(".type")}
    names = headlines.names({k.removesuffix(".type"): {"type": v} for k, v in types.items()})
    usual = [names[key] for key in USUAL if names[key] in metrics]
    chosen = list(wanted) or usual or sorted(metrics)[:1]
    if not chosen:
        raise DataError(f"{rows[0].run} and the others have no scores: they were not evaluated")
    return chosen


def group(
    rows: Sequence[Row], by: Sequence[str], over: Sequence[str], metrics: Sequence[str]
) -> tuple[list[Group], list[str]]:
    """Groups rows with the same settings, in their order; returns notes on their data as well.

    `by` names the keys that tell groups apart, all that differ if it is empty, `over` those that
    may differ inside a group, `metrics` the scores to be shown. Where some runs went further than
    others, the stage is a setting. Raises `DataError` if rows of a group differ in another key.
    """
    keys = {key for row in rows for key in row.keys} | {*COSTS, STAGE}
    for key in (*by, *over):
        if key not in keys:
            raise DataError(f"no run has the key {key!r}; {nearest(key, keys)}")
    by = by or [key for key in varying(rows) if _is_setting(rows, key, over)]
    if len({row.stage for row in rows}) > 1 and STAGE not in (*by, *over):
        by = [STAGE, *by]
    facts = [comparability.without_options(row.data, [*by, *over]) for row in rows]
    differ = comparability.differing(facts, owners(metrics), comparability.OF_STAGES)
    letters, legend = comparability.letters(facts, list(differ))
    gathered: dict[tuple[Any, ...], list[tuple[str, Row]]] = {}
    for row, letter in zip(rows, letters, strict=True):
        setting = tuple(_hashable(_value(row, key)) for key in by)
        gathered.setdefault(setting, []).append((letter, row))
    groups, notes = [], []
    for setting in sorted(gathered, key=_order):
        for letter in sorted({letter for letter, _ in gathered[setting]}):
            repeats = tuple(row for other, row in gathered[setting] if other == letter)
            _check_alike(repeats, by, over)
            notes += _twins(repeats, over)
            groups.append(Group({key: _value(repeats[0], key) for key in by}, letter, repeats))
    if legend:
        notes.append("runs that are not comparable are kept apart: " + "; ".join(legend))
    return groups, notes


def owners(metrics: Iterable[str]) -> list[str]:
    """The owners of the facts that decide whether metrics are comparable."""
    return [comparability.TRAIN, *sorted({metric.partition("/")[0] for metric in metrics})]


def _value(row: Row, key: str) -> Any:
    if key == STAGE:
        return row.stage
    return row.costs[key] if key in COSTS else row.keys.get(key)


def _is_setting(rows: Sequence[Row], key: str, over: Sequence[str]) -> bool:
    return all(
        name not in over and comparability.is_setting(name)
        for name in {row.bare(key) for row in rows}
    )


def _check_alike(rows: Sequence[Row], by: Sequence[str], over: Sequence[str]) -> None:
    """Raises `DataError` if rows differ in more than what they are averaged over."""
    chosen = {*by, *over}
    other = [key for key in varying(rows) if key not in chosen and _is_setting(rows, key, over)]
    if not other:
        return
    key = other[0]
    first = rows[0]
    second = next(row for row in rows if row.keys.get(key) != first.keys.get(key))
    more = f" and {len(other) - 1} more keys" if len(other) > 1 else ""
    raise DataError(
        f"{first.run} and {second.run} would be averaged, but {key} is {first.keys.get(key)!r} and "
        f"{second.keys.get(key)!r}{more}; name it in --by, or in --over to average over it"
    )


def _twins(rows: Sequence[Row], over: Iterable[str]) -> list[str]:
    """Notes on rows of the same setting and seed, which are not independent repeats."""
    seen: dict[tuple[Any, ...], Row] = {}
    notes = []
    for row in rows:
        repeat = tuple(_hashable(row.keys.get(key)) for key in over)
        if repeat in seen and len(rows) > 1:
            notes.append(
                f"{seen[repeat].run} and {row.run} have the same config and seed; both are counted"
            )
        seen.setdefault(repeat, row)
    return notes


def _hashable(value: Any) -> Any:
    return repr(value) if isinstance(value, list | dict) else value


def _order(setting: tuple[Any, ...]) -> list[tuple[int, Any]]:
    """Sorts None first, then numbers, then text."""
    return [
        (0, 0) if value is None else (1, value) if isinstance(value, int | float) else (2, value)
        for value in setting
    ]

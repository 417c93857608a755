"""The points of the curves, over samples, seconds and FLOPs since the first stage began."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from clipa_jax.report.runs import Run, Stage, score_names, trained

MOST = 400  # points of a stage; longer records are averaged in bins


@dataclass(frozen=True)
class Point:
    """One value of one metric.

    Attributes:
      samples, seconds, flops: of training since the first stage began; flops None if unknown.
      value: of the metric.
    """

    samples: float
    seconds: float
    flops: float | None
    value: float


@dataclass(frozen=True)
class Series:
    """The points of one stage."""

    stage: str
    points: tuple[Point, ...]


def curve(run: Run, metric: str) -> list[Series]:
    """The points of a metric in each stage that has some."""
    found = []
    samples, seconds, flops = 0.0, 0.0, 0.0
    known = True  # whether the FLOPs of all stages so far are
    for stage in run.stages:
        known = known and stage.sample_flops is not None
        points = _points(stage, metric, samples, seconds, flops if known else None)
        if points:
            found.append(Series(stage.name, tuple(thinned(points))))
        samples += stage.samples
        seconds += stage.seconds
        flops += stage.flops or 0.0
    return found


def metrics_of(run: Run) -> list[str]:
    """The metrics of evaluators that have a curve: those that a table's headline has."""
    names: dict[str, None] = {}
    for stage in run.stages:
        for record in stage.records:
            names |= dict.fromkeys(name for name in score_names(record) if name.count("/") == 1)
    return list(names)


def thinned(points: Sequence[Point], most: int = MOST) -> list[Point]:
    """At most so many points: means of bins, each at its last point; the ends stay."""
    if len(points) <= most:
        return list(points)
    edges = [round(i * (len(points) - 1) / (most - 1)) for i in range(most)]
    bins = [points[a + 1 : b + 1] for a, b in pairwise(edges)]
    means = [
        Point(
            part[-1].samples,
            part[-1].seconds,
            part[-1].flops,
            sum(point.value for point in part) / len(part),
        )
        for part in bins
    ]
    return [points[0], *means]


def _points(
    stage: Stage, metric: str, samples: float, seconds: float, flops: float | None
) -> list[Point]:
    cost: Callable[[float], float | None] = lambda seen: (  # noqa: E731
        None if flops is None or stage.sample_flops is None else flops + seen * stage.sample_flops
    )
    points = []
    for record in stage.records:
        value = record.get(metric)
        if value is None or not math.isfinite(value):
            continue
        seen = record["step"] * stage.batch_size
        points.append(Point(samples + seen, seconds + trained(record), cost(seen), value))
    return points

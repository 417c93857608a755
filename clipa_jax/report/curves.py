"""Curves of metrics over samples, seconds and FLOPs since the first stage began."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

from clipa_jax.errors import DataError
from clipa_jax.runs import Run, Stage, score_names
from clipa_jax.runtime import files
from clipa_jax.runtime.files import PathLike
from clipa_jax.training.records import TRAIN_SECONDS

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


@dataclass(frozen=True)
class Segment:
    """One stage of an accuracy curve.

    Attributes:
      name: of the stage.
      image_tokens, text_tokens: per sample.
      start, stop: seconds of training since the first stage began.
      points: pairs (seconds as above, accuracy in [0, 1]).
    """

    name: str
    image_tokens: int
    text_tokens: int
    start: float
    stop: float
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class Curve:
    """Accuracy of one run over all its stages; `note` says on what machine and when."""

    segments: list[Segment]
    note: str = ""


def series(run: Run, metric: str) -> list[Series]:
    """The points of a metric in each stage that has any, thinned."""
    stages = ((stage, thinned(points)) for stage, _, points in _by_stage(run, metric))
    return [Series(stage.name, tuple(points)) for stage, points in stages if points]


def metrics_of(run: Run) -> list[str]:
    """The evaluators' metrics that have a curve: all but those of groups of classes."""
    names: dict[str, None] = {}
    for stage in run.stages:
        for record in stage.records:
            names |= dict.fromkeys(name for name in score_names(record) if name.count("/") == 1)
    return list(names)


def accuracy(run: Run, metric: str) -> Curve:
    """The curve of a finished run, for the figure of accuracy against time.

    Raises:
      DataError: a stage is not finished, or no stage has a value of `metric`.
    """
    segments = []
    for stage, start, points in _by_stage(run, metric):
        if stage.result is None:
            raise DataError(f"{stage.folder} is not finished")
        tokens = stage.result["image_tokens"], stage.result["text_tokens"]
        pairs = [(point.seconds, point.value) for point in points]
        segments.append(Segment(stage.name, *tokens, start, start + stage.seconds, pairs))
    if not any(segment.points for segment in segments):
        raise DataError(f"no value of {metric!r} in the records of {run.root}")
    return Curve(segments)


def save(curve: Curve, out: PathLike) -> None:
    """Writes a curve as JSON, to be drawn beside other runs."""
    files.write_json(out, asdict(curve))


def load(path: PathLike) -> Curve:
    """Reads what `save` wrote.

    Raises:
      DataError: the file is missing or of another form.
    """
    content = files.read_json(path)
    try:
        segments = [
            Segment(**{**segment, "points": [(t, a) for t, a in segment["points"]]})
            for segment in content["segments"]
        ]
        return Curve(segments, content.get("note", ""))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not a recorded curve: {error!r}") from None


def thinned(points: Sequence[Point], most: int = MOST) -> list[Point]:
    """At most `most` points: the first, then means of bins, each at its last point."""
    if len(points) <= most:
        return list(points)
    edges = [round(i * (len(points) - 1) / (most - 1)) for i in range(most)]
    means = []
    for a, b in pairwise(edges):
        part, last = points[a + 1 : b + 1], points[b]
        value = sum(point.value for point in part) / len(part)
        means.append(Point(last.samples, last.seconds, last.flops, value))
    return [points[0], *means]


def _by_stage(run: Run, metric: str) -> list[tuple[Stage, float, list[Point]]]:
    """(stage, seconds at its start, points of the metric) of each stage."""
    stages = []
    samples, seconds = 0.0, 0.0
    flops: float | None = 0.0  # None once the FLOPs of a stage are unknown
    for stage in run.stages:
        stages.append((stage, seconds, _points(stage, metric, samples, seconds, flops)))
        samples += stage.samples
        seconds += stage.seconds
        flops = None if flops is None or stage.flops is None else flops + stage.flops
    return stages


def _points(
    stage: Stage, metric: str, samples: float, seconds: float, flops: float | None
) -> list[Point]:
    points = []
    for record in stage.records:
        value = record.get(metric)
        if value is None or not math.isfinite(value):
            continue
        seen, cost = record["step"] * stage.batch_size, stage.sample_flops
        spent = None if flops is None or cost is None else flops + seen * cost
        points.append(Point(samples + seen, seconds + record[TRAIN_SECONDS], spent, value))
    return points

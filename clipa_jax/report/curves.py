"""Curves of metrics over samples, seconds and FLOPs since the first stage began."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from clipa_jax import runs
from clipa_jax.config import bundled
from clipa_jax.errors import DataError
from clipa_jax.runs import Run, Stage, score_names
from clipa_jax.runtime import files
from clipa_jax.runtime.files import Path, PathLike
from clipa_jax.training import records, workdir

MOST = 400  # points of a stage; longer records are averaged in bins


class Point(NamedTuple):
    """A value of a metric after so many samples, seconds and FLOPs of training; None: unknown."""

    samples: float | None
    seconds: float
    flops: float | None
    value: float


class Curve(NamedTuple):
    """A metric during the stage `name`.

    Tokens are per sample, None where unknown; `start` and `stop` are seconds of training since the
    first stage began.
    """

    name: str
    image_tokens: int | None
    text_tokens: int | None
    start: float
    stop: float
    points: list[Point]


def of_run(run: Run, metric: str) -> list[Curve]:
    """The curve of a metric in each stage."""
    curves = []
    samples, seconds = 0.0, 0.0
    flops: float | None = 0.0  # None once the FLOPs of a stage are unknown
    for stage in run.stages:
        points = list(_points(stage, metric, samples, seconds, flops))
        image, text = [(stage.result or {}).get(key) for key in ("image_tokens", "text_tokens")]
        curves.append(Curve(stage.name, image, text, seconds, seconds + stage.seconds, points))
        samples += stage.samples
        seconds += stage.seconds
        flops = None if flops is None or stage.flops is None else flops + stage.flops
    return curves


def of_headline(run: Run) -> list[Curve]:
    """The curves of a finished run's headline score; `DataError` where it has none."""
    if not run.finished:
        raise DataError(f"{run.root} is not finished")
    if run.watched is None:
        raise DataError(f"{run.root} has no accuracy: none of its stages was evaluated")
    curves = of_run(run, run.watched)
    if not any(curve.points for curve in curves):
        raise DataError(f"no value of {run.watched!r} in the records of {run.root}")
    return curves


class Comparison(NamedTuple):
    """The headline score of a run at full resolution from the start, and where it was measured."""

    curves: list[Curve]
    origin: str = "run on this machine"

    @property
    def label(self) -> str:
        """For legends."""
        tokens = f"{self.curves[-1].image_tokens} image and {self.curves[-1].text_tokens} text"
        return f"full resolution from the start, {tokens} tokens ({self.origin})"


def comparison(run: Run) -> Comparison | None:
    """The first finished run in `logs.compare` of a run, else the first recorded curve.

    Raises `DataError` if it has no headline score.
    """
    paths = run.stages[-1].config["logs"]["compare"]
    for path in map(Path, paths):
        if files.exists(path / workdir.SUMMARY):
            return Comparison(of_headline(runs.read_one(path)))
    for path in (bundled.find(path) for path in paths if path.endswith(".json")):
        if files.exists(path):
            curves, note = load(path)
            return Comparison(curves, f"recorded: {note}".rstrip(": "))
    return None


def metrics_of(run: Run) -> list[str]:
    """The evaluators' metrics that have a curve: all but those of groups of classes."""
    recorded = (record for stage in run.stages for record in stage.records)
    names = dict.fromkeys(name for record in recorded for name in score_names(record))
    return [name for name in names if name.count("/") == 1]


def save(curves: Sequence[Curve], note: str, out: PathLike) -> None:
    """Writes accuracy against seconds as JSON, to be drawn beside other runs.

    `note` says on what machine and when.
    """
    segments = [
        {**curve._asdict(), "points": [(point.seconds, point.value) for point in curve.points]}
        for curve in curves
    ]
    files.write_json(out, {"segments": segments, "note": note})


def load(path: PathLike) -> tuple[list[Curve], str]:
    """Reads (curves, note) as `save` wrote them; raises `DataError` if the file is another."""
    content = files.read_json(path)
    try:
        curves = []
        for segment in content["segments"]:
            points = [Point(None, seconds, None, value) for seconds, value in segment["points"]]
            curves.append(Curve(**{**segment, "points": points}))
        return curves, content.get("note", "")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not a recorded curve: {error!r}") from None


def thinned(points: Sequence[Point], most: int = MOST) -> list[Point]:
    """At most `most` points: the first, then means of bins, each at its last point."""
    if len(points) <= most:
        return list(points)
    edges = [round(i * (len(points) - 1) / (most - 1)) for i in range(most)]
    means = [sum(p.value for p in points[a + 1 : b + 1]) / (b - a) for a, b in pairwise(edges)]
    ends = [points[b]._replace(value=mean) for b, mean in zip(edges[1:], means, strict=True)]
    return [points[0], *ends]


def _points(
    stage: Stage, metric: str, samples: float, seconds: float, flops: float | None
) -> Iterator[Point]:
    cost = stage.sample_flops
    for record in stage.records:
        value = record.get(metric)
        if value is not None and math.isfinite(value):
            seen = record[records.STEP] * stage.batch_size
            spent = None if flops is None or cost is None else flops + seen * cost
            yield Point(samples + seen, seconds + record[records.TRAIN_SECONDS], spent, value)

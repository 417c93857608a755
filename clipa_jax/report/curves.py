"""The accuracy of a finished run over all its stages, read from its workdir or from a record."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from clipa_jax.errors import DataError
from clipa_jax.training import metrics

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Segment:
    """One stage of a curve.

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
    points: list[tuple[float, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Curve:
    """Accuracy of one run over all its stages; `note` says on what machine and when."""

    segments: list[Segment]
    note: str = ""


def read_curve(workdir: PathLike, metric: str = "zero_shot/top1") -> Curve:
    """The curve of a finished run, from summary.json and each stage's metrics.jsonl.

    Raises:
      DataError: no summary, or no value of `metric` in any stage.
    """
    workdir = Path(workdir)
    segments, start = [], 0.0
    for stage in stages(read_json(workdir / "summary.json")):
        records = metrics.read(workdir / stage["name"] / metrics.RECORDS)
        points = [
            (start + record.get(metrics.TRAIN_SECONDS, record[metrics.SECONDS]), record[metric])
            for record in records
            if record.get(metric) is not None
        ]
        stop = start + stage["seconds"]
        tokens = stage["image_tokens"], stage["text_tokens"]
        segments.append(Segment(stage["name"], *tokens, start, stop, points))
        start = stop
    if not any(segment.points for segment in segments):
        raise DataError(f"no value of {metric!r} in the records of {workdir}")
    return Curve(segments)


def save_curve(curve: Curve, out: PathLike) -> None:
    """Writes a curve as JSON, to be drawn beside runs on other days."""
    Path(out).write_text(json.dumps(asdict(curve), indent=1) + "\n", encoding="utf-8")


def load_curve(path: PathLike) -> Curve:
    """Reads what `save_curve` wrote."""
    content = read_json(Path(path))
    try:
        segments = [
            Segment(**{**segment, "points": [(t, a) for t, a in segment["points"]]})
            for segment in content["segments"]
        ]
        return Curve(segments, content.get("note", ""))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not a recorded curve: {error!r}") from None


def stages(summary: Any) -> Sequence[Mapping[str, Any]]:
    """The stages of a summary.json's content; `DataError` if there are none."""
    found = summary.get("stages") if isinstance(summary, Mapping) else summary
    if not isinstance(found, Sequence) or not found:
        raise DataError("summary.json must hold a list `stages` with at least one stage")
    return found


def read_json(path: Path) -> Any:
    """The content of a JSON file; `DataError` if it is not there or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"no file {path}; has the run finished?") from None
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}") from None

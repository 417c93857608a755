"""Looks for finished runs below folders, and for what is missing of a sweep."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clipa_jax import models
from clipa_jax.config.settings import Settings
from clipa_jax.errors import DataError, UserError
from clipa_jax.evaluation import comparability, rows
from clipa_jax.evaluation.rows import Row
from clipa_jax.planning import flops
from clipa_jax.runtime import files
from clipa_jax.training import workdir

EVALUATION = "evaluation.json"
POINTS = "points.txt"  # of a sweep: the name of every point, see tools/sweeps/points.sh
PASSED_BY = ("cache", "checkpoints")  # folders of a run without results


@dataclass
class Found:
    """What was found.

    Attributes:
      rows: finished stages.
      missing: points of a sweep that are not finished.
      broken: sentences about what could not be read.
    """

    rows: list[Row] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def read(places: Sequence[Path]) -> Found:
    """Everything below some folders, or in tables that `rows.save` wrote.

    Raises:
      DataError: a place is not there or holds no finished run.
    """
    found = Found()
    for place in places:
        prefix = f"{place}/" if len(places) > 1 else ""
        before = len(found.rows) + len(found.broken)
        if place.is_file():
            found.rows += rows.load(place)
        elif place.is_dir():
            for folder in _runs(place):
                _read_run(folder, prefix + str(folder.relative_to(place)), found)
            found.missing += [prefix + name for name in _missing(place)]
        else:
            raise DataError(f"{place} is not there; give a folder with runs below it")
        if before == len(found.rows) + len(found.broken):
            raise DataError(
                f"no finished run in {place}: looked for {workdir.SUMMARY}, which "
                "`python -m clipa_jax.train` writes at its end"
            )
    return found


def _runs(place: Path) -> Iterator[Path]:
    """Folders with a summary, in order; a run is not looked into."""
    for folder, inner, names in os.walk(place):
        inner[:] = sorted(name for name in inner if name not in PASSED_BY)
        if workdir.SUMMARY in names:
            inner.clear()
            yield Path(folder)


def _missing(place: Path) -> list[str]:
    """Points of a sweep in `place` that are not finished."""
    file = place / POINTS
    names = file.read_text().splitlines() if file.exists() else []
    return [name for name in names if not (place / name / workdir.SUMMARY).exists()]


def _read_run(folder: Path, run: str, found: Found) -> None:
    """Adds the stages of a run to `found`."""
    made: dict[str, Row] = {}
    try:
        summary = files.read_json(folder / workdir.SUMMARY)
        for result in summary["stages"]:
            before = folder / result["name"]
            config = _json(before / workdir.CONFIG)
            row = _row(run, result, config, _json(before / EVALUATION), made, found)
            made[row.stage] = row
    except (UserError, KeyError, TypeError, AttributeError) as error:
        said = str(error) if isinstance(error, UserError) else f"it lacks {error}"
        found.broken.append(f"{folder} is left out: {said}")
        return
    found.rows += made.values()


def _json(file: Path) -> dict[str, Any]:
    """The content of a file; empty where there is none."""
    return files.read_json(file) if file.exists() else {}


def _row(
    run: str,
    result: Mapping[str, Any],
    config: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    made: Mapping[str, Row],
    found: Found,
) -> Row:
    after, init = config.get("after") or "", config.get("init") or ""
    before = None if init else made.get(after)
    from_scratch = init == "scratch" or not (init or after)
    own = workdir.leaves(config) if config else {}
    own |= {key: result[key] for key in rows.SIZES}
    earlier = {}
    if before is not None:
        earlier = {**before.earlier, **{f"{before.stage}.{k}": v for k, v in before.own.items()}}
    costs: dict[str, float | None] = {
        "samples": result["samples_seen"],
        "seconds": result["seconds"],
        "flops": _flops(f"{run}/{result['name']}", config, result, found),
    }
    for key in ("samples", "seconds", "flops"):
        past = 0 if from_scratch else before.costs[f"total_{key}"] if before else None
        spent = costs[key]
        costs[f"total_{key}"] = None if spent is None or past is None else spent + past
    return Row(
        run=run,
        stage=result["name"],
        own=own,
        earlier=earlier,
        costs=costs,
        data=comparability.of(config, result, evaluation),
        scores={k: v for k, v in result["scores"].items() if v is not None},
        intervals=_intervals(evaluation),
    )


def _flops(
    name: str, config: Mapping[str, Any], result: Mapping[str, Any], found: Found
) -> float | None:
    """Training FLOPs of a stage, see `planning.flops`; None if its config does not tell."""
    try:
        model = models.build(Settings(config["model"], "config.model"))
        one = flops.forward(
            model,
            res=config["input"]["res"],
            image_tokens=result["image_tokens"],
            text_tokens=result["text_tokens"],
            batch=config["input"]["batch_size"],
        )
    except (UserError, KeyError) as error:
        found.broken.append(f"{name}: its FLOPs are not known, its config says {error}")
        return None
    return one.training * result["samples_seen"]


def _intervals(evaluation: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """(low, high) by `<evaluator>/<metric>`."""
    return {
        f"{name}/{metric}": (value["low"], value["high"])
        for name, one in (evaluation.get("evaluations") or {}).items()
        for metric, value in one["metrics"].items()
        if value.get("low") is not None and value.get("high") is not None
    }

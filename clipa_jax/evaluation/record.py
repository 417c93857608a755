"""The record of an evaluation: evaluation.json, and values per sample in evaluation.npz.

`clipa_jax.evaluate` and the end of every training stage write the same format, which
docs/evaluation.md describes.
"""

import contextlib
import json
import math
import platform
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

import jax
from jax.sharding import Mesh

import clipa_jax
from clipa_jax.errors import DataError, MissingData, UserError
from clipa_jax.evaluation import samples
from clipa_jax.evaluators import bootstrap, data_fingerprint
from clipa_jax.evaluators.context import Evaluator, HasParams
from clipa_jax.evaluators.outcome import Outcome
from clipa_jax.models import layout
from clipa_jax.runtime import distributed, files, fingerprint
from clipa_jax.runtime.files import Path
from clipa_jax.training import workdir
from clipa_jax.training.stage import Stage

VERSIONS = ("jax", "jaxlib", "flax", "numpy", "tensorflow")
# Relative difference by rounding of a stored value and the one computed from its samples.
TOLERANCE = 1e-9
# Keys of an entry of `evaluations` that comparisons and tables need.
NEEDED = ("type", "options", "source", "split", "data_fingerprint", "preprocess", "metrics") + (
    "preprocess_fingerprint",
    "prompts_fingerprint",
    "seconds",
)
Report = dict[str, Any]


@dataclass(frozen=True)
class Evaluated:
    """The outcomes of an evaluator by metric, with its section of the config, and the seconds."""

    evaluator: Evaluator
    options: Mapping[str, Any]
    outcomes: Mapping[str, Outcome]
    seconds: float


@dataclass(frozen=True)
class Record:
    """An evaluation as written: evaluation.json, and the outcomes by evaluation and metric."""

    report: Report
    outcomes: samples.Outcomes


def run(evaluator: Evaluator, options: Mapping[str, Any], state: HasParams) -> Evaluated:
    """Evaluates `state` and measures the time."""
    began = time.monotonic()
    outcomes = dict(evaluator.outcomes(state))
    return Evaluated(evaluator, options, outcomes, time.monotonic() - began)


def of_stage(stage: Stage, state: Any) -> dict[str, float]:
    """The scores of a stage's state by the evaluators that are due, by `<evaluator>/<metric>`.

    At the end of the stage they are also written to W/<stage>/evaluation.json, with intervals.
    """
    step, options = int(state.step), stage.config.evals.to_dict()
    results = {name: run(e, options[name], state) for name, e in stage.due(step).items()}
    if step == stage.durations.total_steps:
        missing = {name: absent(error, options[name]) for name, error in stage.missing.items()}
        where, mesh = str(stage.folder), stage.program.mesh
        record = make(where, results, params=state.params, mesh=mesh, missing=missing)
        write(stage.folder / workdir.EVALUATION, record)
    return {
        f"{name}/{metric}": outcome.value
        for name, result in results.items()
        for metric, outcome in result.outcomes.items()
    }


def make(
    checkpoint: str,
    evaluated: Mapping[str, Evaluated],
    *,
    params: Any,
    mesh: Mesh,
    missing: Mapping[str, Mapping[str, Any]] | None = None,
    differs: Iterable[Mapping[str, Any]] = (),
) -> Record:
    """The record of an evaluation of `params`; every process must call it.

    `missing` are evaluations without data, see `absent`; `differs` config keys with other values
    than in training, see `evaluation.checkpoint`.
    """
    weights = fingerprint.of(jax.jit(layout.unroll)(params))
    report = {
        "checkpoint": checkpoint,
        "weights": f"{weights:08x}",
        "environment": environment(mesh),
        "differs": [dict(change) for change in differs],
        "evaluations": {name: _entry(result) for name, result in evaluated.items()},
        "missing": {name: dict(entry) for name, entry in (missing or {}).items()},
    }
    report = json.loads(json.dumps(report))  # as it is read again: a tuple becomes a list
    return Record(report, {name: result.outcomes for name, result in evaluated.items()})


def absent(error: DataError, options: Mapping[str, Any]) -> dict[str, Any]:
    """The entry in `missing` of an evaluation without data."""
    known = {"dataset": options.get("source"), "looked": None, "command": None}
    if isinstance(error, MissingData):
        known = {"dataset": error.dataset, "looked": error.looked, "command": error.command or None}
    return {**known, "error": str(error)}


def environment(mesh: Mesh) -> dict[str, Any]:
    """Versions, devices and mesh of the evaluation."""
    device = mesh.devices.flat[0]
    return {
        "clipa_jax": clipa_jax.__version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in VERSIONS},
        "platform": device.platform,
        "device": device.device_kind,
        "devices": mesh.size,
        "processes": jax.process_count(),
        "mesh": dict(mesh.shape),
    }


def write(file: Path, record: Record) -> None:
    """Writes the report and, beside it, the outcomes, on process 0."""
    if distributed.first():
        with writing(file):
            samples.save(samples_of(file), record.outcomes)
            files.write_json(file, record.report)


@contextlib.contextmanager
def writing(file: Path) -> Iterator[None]:
    """Makes the folder of a file; an error of the block is one in writing the file."""
    try:
        files.make_folder(file.parent)
        yield
    except OSError as error:
        raise UserError(f"{file} cannot be written: {files.reason(error)}") from None


def read_report(file: Path) -> Report:
    """Reads the report that `write` wrote; `UserError` if it is something else."""
    if not file.is_file():
        raise UserError(f"no file {file} with the results of an evaluation")
    report = files.read_json(file)
    if not isinstance(report, dict) or not isinstance(report.get("evaluations"), dict):
        raise UserError(f"{file} is not the report of an evaluation: it has no `evaluations`")
    for name, entry in report["evaluations"].items():
        lacking = [key for key in NEEDED if key not in entry]
        if lacking:
            raise UserError(
                f"{file} is not the report of an evaluation: {name} has no {lacking[0]}"
            )
    return report


def read(file: Path) -> Record:
    """Reads what `write` wrote; `UserError` if it is another format or of another evaluation."""
    report = read_report(file)
    stored = samples.load(samples_of(file))
    outcomes = {
        name: dict(_checked(file, name, entry["metrics"], stored.get(name, {})))
        for name, entry in report["evaluations"].items()
    }
    return Record(report, outcomes)


def _checked(
    file: Path, name: str, metrics: Mapping[str, Any], stored: Mapping[str, Outcome]
) -> Iterator[tuple[str, Outcome]]:
    """Checks outcomes against the values of the report, and takes the latter."""
    for metric, entry in metrics.items():
        value, count, outcome = entry["value"], entry["count"], stored.get(metric)
        if outcome is None or outcome.count != count or not _same(outcome.value, value):
            raise UserError(
                f"{samples_of(file)} belongs to another evaluation than {file}: {name}/{metric} is "
                f"{value} of {count} samples in the latter"
            )
        yield metric, replace(outcome, value=math.nan if value is None else value)


def samples_of(file: Path) -> Path:
    """The file with the outcomes of a report."""
    return file.with_suffix(".npz")


def _entry(result: Evaluated) -> dict[str, Any]:
    info = result.evaluator.info()
    count = next((outcome.count for outcome in result.outcomes.values()), info.num_examples)
    return {
        "type": result.options.get("type"),
        "options": {key: value for key, value in result.options.items() if key != "type"},
        "source": info.source,
        "split": info.split,
        "data_fingerprint": info.data_fingerprint,
        "preprocess": info.preprocess,
        "preprocess_fingerprint": data_fingerprint.of_texts([info.preprocess]),
        "prompts_fingerprint": None
        if info.prompts is None
        else data_fingerprint.of_texts(info.prompts),
        "count": count,
        "examples": info.num_examples,
        "seconds": round(result.seconds, 2),
        "metrics": {metric: _metric(outcome) for metric, outcome in result.outcomes.items()},
    }


def _metric(outcome: Outcome) -> dict[str, Any]:
    low, high = bootstrap.interval(outcome) or (None, None)
    value = outcome.value if math.isfinite(outcome.value) else None
    return {"value": value, "low": low, "high": high, "count": outcome.count}


def _same(value: float, recorded: float | None) -> bool:
    if recorded is None:
        return not math.isfinite(value)
    return math.isclose(value, recorded, rel_tol=TOLERANCE, abs_tol=TOLERANCE)

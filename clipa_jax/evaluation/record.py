"""What evaluators said of a checkpoint, as it is written down: evaluation.json.

One format for `clipa_jax.evaluate` and for the end of every training stage; docs/evaluation.md
says what is in it. What was said of each sample lies beside it, in evaluation.npz.
"""

import json
import math
import platform
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
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

VERSIONS = ("jax", "jaxlib", "flax", "numpy", "tensorflow")
# A stored value and the one computed again from its samples may differ by rounding alone.
TOLERANCE = 1e-9
# What a comparison asks of an entry of `evaluations`.
NEEDED = ("type", "options", "source", "split", "data_fingerprint", "preprocess", "metrics") + (
    "preprocess_fingerprint",
    "prompts_fingerprint",
)
Report = dict[str, Any]


@dataclass(frozen=True)
class Evaluated:
    """What one evaluator said of one set of weights.

    Attributes:
      evaluator: who said it.
      options: its section of the config.
      outcomes: by metric.
      seconds: that it took.
    """

    evaluator: Evaluator
    options: Mapping[str, Any]
    outcomes: Mapping[str, Outcome]
    seconds: float


@dataclass(frozen=True)
class Record:
    """An evaluation as written: the report, and the outcomes of its samples.

    Attributes:
      report: the content of evaluation.json.
      outcomes: by evaluation and metric; those that have samples.
    """

    report: Report
    outcomes: samples.Outcomes


def run(evaluator: Evaluator, options: Mapping[str, Any], state: HasParams) -> Evaluated:
    """Evaluates `state` and takes the time."""
    began = time.monotonic()
    outcomes = dict(evaluator.outcomes(state))
    return Evaluated(evaluator, options, outcomes, time.monotonic() - began)


def values(evaluated: Mapping[str, Evaluated]) -> dict[str, float]:
    """All scores, by `<evaluation>/<metric>`."""
    return {
        f"{name}/{metric}": outcome.value
        for name, one in evaluated.items()
        for metric, outcome in one.outcomes.items()
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
    """The record of an evaluation; to be called on every process.

    Args:
      checkpoint: where the weights are.
      evaluated: by name.
      params: the weights.
      mesh: the devices.
      missing: what could not be evaluated, see `absent`.
      differs: keys of the config that the checkpoint was trained with and evaluated otherwise:
        `key`, `checkpoint`, `config`.
    """
    weights = fingerprint.of(jax.jit(layout.unroll)(params))
    report = {
        "checkpoint": checkpoint,
        "weights": f"{weights:08x}",
        "environment": environment(mesh),
        "differs": [dict(one) for one in differs],
        "evaluations": {name: _entry(one) for name, one in evaluated.items()},
        "missing": {name: dict(one) for name, one in (missing or {}).items()},
    }
    report = json.loads(json.dumps(report))  # as it will be read: a tuple is a list
    outcomes = {
        name: {metric: one for metric, one in said.outcomes.items() if one.ids is not None}
        for name, said in evaluated.items()
    }
    return Record(report, outcomes)


def absent(error: DataError, options: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of an evaluation that could not be made, for `missing`."""
    known = error if isinstance(error, MissingData) else None
    return {
        "dataset": known.dataset if known else options.get("source"),
        "looked": known.looked if known else None,
        "command": known.command or None if known else None,
        "error": str(error),
    }


def environment(mesh: Mesh) -> dict[str, Any]:
    """What computed the numbers: versions, devices and the mesh over them."""
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
    """Writes the report and, beside it, the outcomes of the samples; process 0 alone does."""
    if not distributed.first():
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        samples.save(samples_of(file), record.outcomes)
        files.write_json(file, record.report)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}") from None


def read(file: Path) -> Record:
    """What `write` wrote.

    Raises:
      UserError: it is not there, not of this form, or its samples are of another evaluation.
    """
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
    found = samples.load(samples_of(file))
    outcomes = {
        name: dict(_checked(file, name, entry["metrics"], found.get(name, {})))
        for name, entry in report["evaluations"].items()
    }
    return Record(report, outcomes)


def _checked(
    file: Path, name: str, told: Mapping[str, Any], found: Mapping[str, Outcome]
) -> Iterator[tuple[str, Outcome]]:
    """The outcomes that have samples, with the values of the report, which must be theirs."""
    for metric, entry in told.items():
        value, count, one = entry["value"], entry["count"], found.get(metric)
        if one is None and not count:
            continue
        if one is None or one.count != count or not _same(one.value, value):
            raise UserError(
                f"{samples_of(file)} belongs to another evaluation than {file}: {name}/{metric} is "
                f"{value} of {count} samples in the latter"
            )
        yield metric, replace(one, value=math.nan if value is None else value)


def samples_of(file: Path) -> Path:
    """Where the outcomes lie that belong to a report."""
    return file.with_suffix(".npz")


def _entry(one: Evaluated) -> dict[str, Any]:
    info = one.evaluator.info()
    count = next((outcome.count for outcome in one.outcomes.values() if outcome.count), None)
    return {
        "type": one.options.get("type"),
        "options": {key: value for key, value in one.options.items() if key != "type"},
        "source": info.source,
        "split": info.split,
        "data_fingerprint": info.data_fingerprint,
        "preprocess": info.preprocess,
        "preprocess_fingerprint": data_fingerprint.of_texts([info.preprocess]),
        "prompts_fingerprint": None
        if info.prompts is None
        else data_fingerprint.of_texts(info.prompts),
        "count": info.num_examples if count is None else count,
        "examples": info.num_examples,
        "seconds": round(one.seconds, 2),
        "metrics": {metric: _metric(outcome) for metric, outcome in one.outcomes.items()},
    }


def _metric(outcome: Outcome) -> dict[str, Any]:
    low, high = bootstrap.interval(outcome) or (None, None)
    value = outcome.value if math.isfinite(outcome.value) else None
    return {"value": value, "low": low, "high": high, "count": outcome.count or None}


def _same(value: float, told: float | None) -> bool:
    if told is None:
        return not math.isfinite(value)
    return math.isclose(value, told, rel_tol=TOLERANCE, abs_tol=TOLERANCE)

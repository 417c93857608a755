"""What lies in a workdir, read for the report. Parts may be absent; then they are None."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipa_jax.config.settings import Settings
from clipa_jax.errors import DataError, UserError
from clipa_jax.planning import workload
from clipa_jax.report import held_out
from clipa_jax.report.held_out import HeldOut
from clipa_jax.training import metrics, workdir

ENVIRONMENT = "environment.json"  # written by the trainer
EVALUATION = "evaluation.json"  # written by the trainer and by clipa_jax.evaluate
PLAN = "plan.json"  # tools/plan.py --json=W/plan.json
SKIPPED = "data/skipped/"


@dataclass(frozen=True)
class Stage:
    """One stage as it ran, or as far as it has run.

    Attributes:
      name: of the stage.
      folder: where its files are.
      config: as it ran, nested.
      records: of metrics.jsonl, one a step.
      result: what the summary holds of it; None while it is not finished.
      sizes: the model and its tokens; None where this version cannot read the config.
      evaluation: of evaluation.json.
      environment: of environment.json.
      held_out: pictures and captions.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    records: list[dict[str, Any]]
    result: dict[str, Any] | None
    sizes: workload.Sizes | None
    evaluation: dict[str, Any] | None
    environment: dict[str, Any] | None
    held_out: HeldOut | None

    @property
    def batch_size(self) -> int:
        return self.config["input"]["batch_size"]

    @property
    def samples(self) -> int:
        """Trained on so far."""
        if self.result:
            return self.result["samples_seen"]
        return max((r["step"] for r in self.records), default=0) * self.batch_size

    @property
    def seconds(self) -> float:
        """Of training so far, compilation included, evaluation not."""
        if self.result:
            return self.result["seconds"]
        return max((trained(record) for record in self.records), default=0.0)

    @property
    def wall_seconds(self) -> float:
        """Of everything, evaluation included."""
        last = max((r.get(metrics.SECONDS, 0.0) for r in self.records), default=0.0)
        return max(last, self.seconds)

    @property
    def sample_flops(self) -> float | None:
        """The model's own FLOPs of training on one sample."""
        return self.sizes.forward.training if self.sizes else None

    @property
    def flops(self) -> float | None:
        """Of the stage so far."""
        return None if self.sample_flops is None else self.sample_flops * self.samples

    @property
    def peak_lr(self) -> float:
        return self.config["optim"]["lr_per_256"] * self.batch_size / 256

    @property
    def scores(self) -> dict[str, float]:
        """The last evaluation, by `<evaluator>/<metric>`."""
        if self.result:
            return self.result.get("scores", {})
        last = next((record for record in self.records[::-1] if score_names(record)), {})
        return {name: last[name] for name in score_names(last)}

    @property
    def skipped(self) -> dict[str, int]:
        """Samples that could not be used, by reason."""
        last = next((r for r in self.records[::-1] if "loss" in r), {})
        return {
            name.removeprefix(SKIPPED): int(count)
            for name, count in last.items()
            if name.startswith(SKIPPED) and count
        }


@dataclass(frozen=True)
class Run:
    """A workdir.

    Attributes:
      label: short, and no two the same in one report.
      root: the workdir.
      stages: in the order of training.
      plan: of plan.json.
      damaged: sentences on files that could not be read.
    """

    label: str
    root: Path
    stages: tuple[Stage, ...]
    plan: dict[str, Any] | None
    damaged: tuple[str, ...]

    @property
    def finished(self) -> bool:
        return all(stage.result for stage in self.stages)


def read(roots: Sequence[Path]) -> list[Run]:
    """The runs in some workdirs.

    Raises:
      DataError: one of them holds no stage.
    """
    return [_run(root, label) for root, label in zip(roots, _labels(roots), strict=True)]


def trained(record: Mapping[str, Any]) -> float:
    """Seconds of training up to a record; older runs have only the wall clock."""
    return record.get(metrics.TRAIN_SECONDS) or record.get(metrics.SECONDS, 0.0)


def score_names(record: Mapping[str, Any]) -> list[str]:
    """The metrics of evaluators in a record."""
    return [name for name in record if "/" in name and not name.startswith("data/")]


def _labels(roots: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    parts = [root.resolve().parts for root in roots]
    for length in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(part[-length:]).strip("/") or "/" for part in parts]
        if len(set(labels)) == len(labels):
            return labels
    return [f"{'/'.join(part[-1:])} ({number})" for number, part in enumerate(parts, 1)]


def _run(root: Path, label: str) -> Run:
    damaged: list[str] = []
    folders = [file.parent for file in root.glob(f"*/{workdir.CONFIG}")]
    stages = [stage for folder in folders if (stage := _stage(folder, damaged))]
    if not stages:
        what = f": {'; '.join(damaged)}" if damaged else "; is it the --workdir of a training?"
        raise DataError(f"{root} holds no stage with a {workdir.CONFIG}{what}")
    plan = _json(root / PLAN, damaged)
    if plan is not None and not isinstance(plan.get("stages"), list):
        damaged.append(f"{root / PLAN} is not what tools/plan.py --json writes")
        plan = None
    return Run(label, root, _in_order(root, stages, damaged), plan, tuple(damaged))


def _stage(folder: Path, damaged: list[str]) -> Stage | None:
    config = _json(folder / workdir.CONFIG, damaged)
    if config is None:
        return None
    records = folder / metrics.RECORDS
    held = None
    try:
        held = held_out.load(folder)
    except DataError as error:
        damaged.append(str(error))
    return Stage(
        name=folder.name,
        folder=folder,
        config=config,
        records=metrics.read(records) if records.exists() else [],
        result=_json(folder / workdir.RESULT, damaged),
        sizes=_sizes(folder, config, damaged),
        evaluation=_json(folder / EVALUATION, damaged),
        environment=_json(folder / ENVIRONMENT, damaged),
        held_out=held,
    )


def _sizes(folder: Path, config: dict[str, Any], damaged: list[str]) -> workload.Sizes | None:
    try:
        return workload.sizes(Settings(config))
    except (UserError, KeyError, TypeError, ValueError) as error:
        damaged.append(f"{folder / workdir.CONFIG}: its FLOPs are not known: {error}")
        return None


def _json(file: Path, damaged: list[str]) -> Any:
    """The object in a JSON file; None where there is none, or it cannot be read."""
    if not file.exists():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        damaged.append(f"{file} cannot be read: {error}")
        return None
    if not isinstance(content, dict):
        damaged.append(f"{file} holds no object")
        return None
    return content


def _in_order(root: Path, stages: list[Stage], damaged: list[str]) -> tuple[Stage, ...]:
    """As in the summary, then the others; a stage never before the one that it starts from."""
    summary = _json(root / workdir.SUMMARY, damaged) or {}
    known = [entry.get("name") for entry in summary.get("stages", ())]
    rest = sorted(
        stages, key=lambda s: (s.name not in known, s.name in known and known.index(s.name), s.name)
    )
    ordered: list[Stage] = []
    while rest:
        names = {stage.name for stage in rest}
        free = [stage for stage in rest if stage.config.get("after") not in names - {stage.name}]
        ordered.append((free or rest)[0])
        rest.remove(ordered[-1])
    return tuple(ordered)

"""Workdirs as reports, figures, sweeps and model cards read them.

Missing parts are None or empty. A file that cannot be read becomes a sentence in `damaged`.
`training/workdir.py` lists the files and their other readers. TensorFlow is not imported.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clipa_jax.config.settings import Settings
from clipa_jax.errors import DataError, UserError
from clipa_jax.evaluation import comparability, held_out
from clipa_jax.evaluation.held_out import HeldOut
from clipa_jax.planning import workload
from clipa_jax.runtime import files
from clipa_jax.runtime.files import Path
from clipa_jax.training import headlines, optim, records, spikes, workdir


@dataclass(frozen=True)
class Score:
    """One metric of an evaluator; the interval is of 95 %, None where there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    count: int | None = None


@dataclass(frozen=True)
class Stage:
    """One stage as it ran, or as far as it has run: the content of its files.

    `config` is nested, and empty where it was not kept; `result` may come from summary.json, and is
    None while the stage is not finished; `damaged` has sentences on files that cannot be read.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    result: dict[str, Any] | None
    evaluation: dict[str, Any] | None
    environment: dict[str, Any] | None
    damaged: list[str] = field(default_factory=list)

    @functools.cached_property
    def records(self) -> list[dict[str, Any]]:
        """The records of metrics.jsonl, one per step."""
        file = self.folder / workdir.METRICS
        return records.read(file) if file.exists() else []

    @functools.cached_property
    def sizes(self) -> workload.Sizes | None:
        """The model and its tokens; None where this version cannot read the config."""
        try:
            return workload.sizes(Settings(self.config))
        except (UserError, KeyError, TypeError, ValueError) as error:
            file = self.folder / workdir.CONFIG
            self.damaged.append(f"{file}: the FLOPs are not known: {error}")
            return None

    @functools.cached_property
    def held_out(self) -> HeldOut | None:
        """Pictures and captions."""
        try:
            return held_out.load(self.folder)
        except DataError as error:
            self.damaged.append(str(error))
            return None

    @property
    def batch_size(self) -> int:
        return self.config["input"]["batch_size"]

    @property
    def samples(self) -> int:
        """Samples trained on so far."""
        if self.result:
            return self.result["samples_seen"]
        return max((r[records.STEP] for r in self.records), default=0) * self.batch_size

    @property
    def seconds(self) -> float:
        """Seconds of training so far, compilation included, evaluation not."""
        if self.result:
            return self.result["seconds"]
        return max((r.get(records.TRAIN_SECONDS, 0.0) for r in self.records), default=0.0)

    @property
    def wall_seconds(self) -> float:
        """Seconds so far, evaluation included."""
        last = max((r.get(records.SECONDS, 0.0) for r in self.records), default=0.0)
        return max(last, self.seconds)

    @property
    def sample_flops(self) -> float | None:
        """The model's own FLOPs of training on one sample; None where the model is unknown."""
        return self.sizes.forward.training if self.sizes else None

    @property
    def flops(self) -> float | None:
        """The model's own FLOPs of the stage so far."""
        return None if self.sample_flops is None else self.sample_flops * self.samples

    @property
    def peak_lr(self) -> float:
        return optim.peak_lr(self.config["optim"]["lr_per_256"], self.batch_size)

    @functools.cached_property
    def scores(self) -> dict[str, dict[str, Score]]:
        """The last scores by evaluator and metric, evaluators in the order of the config.

        From evaluation.json, with intervals; from the result or the records for other metrics.
        """
        scores: dict[str, dict[str, Score]] = {name: {} for name in self.evals}
        record = next((record for record in self.records[::-1] if score_names(record)), {})
        recorded = {name: record[name] for name in score_names(record)}
        for name, value in (self.result["scores"] if self.result else recorded).items():
            evaluator, _, metric = name.partition("/")
            scores.setdefault(evaluator, {})[metric] = Score(value)
        for evaluator, entry in self.entries.items():
            for metric, score in entry.get("metrics", {}).items():
                values = [score.get(key) for key in ("value", "low", "high", "count")]
                scores.setdefault(evaluator, {})[metric] = Score(*values)
        return {evaluator: metrics for evaluator, metrics in scores.items() if metrics}

    @property
    def training_facts(self) -> dict[str, str | None]:
        """The facts that must agree for trainings to be comparable, see `comparability`."""
        return comparability.of_training(self.config, self.result or {}, self.environment or {})

    def facts(self, evaluator: str) -> dict[str, str | None]:
        """The facts that must agree for results of an evaluator to be comparable."""
        section, entry = self.evals.get(evaluator, {}), self.entries.get(evaluator, {})
        return comparability.of_evaluation(evaluator, section, entry)

    @property
    def evals(self) -> dict[str, Any]:
        """Sections of the config by evaluator."""
        return self.config.get("evals") or {}

    @property
    def entries(self) -> dict[str, Any]:
        """Entries of evaluation.json by evaluator."""
        return (self.evaluation or {}).get("evaluations") or {}

    @functools.cached_property
    def spikes(self) -> list[dict[str, Any]]:
        """Spikes of the loss, see training/spikes.py."""
        try:
            return spikes.read(self.folder)
        except (DataError, ValueError) as error:
            self.damaged.append(f"{self.folder / workdir.SPIKES}: {error}")
            return []

    @property
    def skipped(self) -> dict[str, int]:
        """Counts of samples that could not be used, by reason."""
        last = next((r for r in self.records[::-1] if "loss" in r), {})
        return {
            name.removeprefix(records.SKIPPED): int(count)
            for name, count in last.items()
            if name.startswith(records.SKIPPED) and count
        }


@dataclass(frozen=True)
class Run:
    """A workdir: its stages in the order of training, with a label that is unique in a report."""

    label: str
    root: Path
    stages: tuple[Stage, ...]
    plan: dict[str, Any] | None
    own_damaged: tuple[str, ...]

    @property
    def finished(self) -> bool:
        return all(stage.result for stage in self.stages)

    @property
    def damaged(self) -> tuple[str, ...]:
        """Sentences on files that could not be read."""
        for stage in self.stages:
            _ = stage.held_out, stage.sizes, stage.spikes  # read when first asked for
        return (*self.own_damaged, *(text for stage in self.stages for text in stage.damaged))

    @property
    def last_evaluated(self) -> Stage:
        """The last stage with scores; the last stage without any."""
        return next((stage for stage in self.stages[::-1] if stage.scores), self.stages[-1])

    @property
    def headline(self) -> str | None:
        """The score of the last evaluated stage, `<evaluator>/<metric>`, that represents the run.

        Top-1 of the first zero-shot evaluator, else recall at 1 of retrieval, else any top-1.
        """
        stage = self.last_evaluated
        names = [f"{name}/{metric}" for name, known in stage.scores.items() for metric in known]
        known = headlines.names(stage.evals, names)
        preferred = [name for name in known.values() if name in names]
        return next(iter(preferred + [name for name in names if name.endswith("/top1")]), None)

    @property
    def watched(self) -> str | None:
        """The headline, or the same metric of an evaluator that also ran during training."""
        stage, (evaluator, _, metric) = self.last_evaluated, (self.headline or "").partition("/")
        if stage.evals.get(evaluator, {}).get("when") != "end":
            return self.headline
        alike = [
            f"{name}/{metric}"
            for name, section in stage.evals.items()
            if section.get("type") == stage.evals[evaluator].get("type")
            and section.get("when") != "end"
            and metric in stage.scores.get(name, {})
        ]
        return next(iter(alike), self.headline)


def read(roots: Sequence[Path]) -> list[Run]:
    """The runs in some workdirs, with labels that tell them apart.

    Raises `DataError` where a workdir holds no stage with its config.
    """
    return [_with_configs(read_one(*pair)) for pair in zip(roots, _labels(roots), strict=True)]


def read_one(root: Path, label: str = "") -> Run:
    """The run in a workdir; stages whose config was not kept have an empty one."""
    damaged: list[str] = []
    try:
        results = {entry["name"]: entry for entry in summary(root)}
    except DataError as error:
        results = {}
        if (root / workdir.SUMMARY).exists():
            damaged.append(str(error))
    folders = [file.parent for file in root.glob(f"*/{workdir.CONFIG}")]
    names = dict.fromkeys([*results, *sorted(folder.name for folder in folders)])
    stages = [_stage(root / name, results.get(name)) for name in names]
    plan = _object(root / workdir.PLAN, damaged)
    if plan is not None and not isinstance(plan.get("stages"), list):
        damaged.append(f"{root / workdir.PLAN} is not what tools/plan.py --json writes")
        plan = None
    return Run(label, root, _in_order(stages), plan, tuple(damaged))


def summary(root: Path) -> list[dict[str, Any]]:
    """The results of the finished stages, from summary.json; `DataError` without one."""
    file = root / workdir.SUMMARY
    if not file.exists():
        raise DataError(f"no file {file}; has the run finished?")
    content = files.read_json(file)
    stages = content.get("stages") if isinstance(content, Mapping) else None
    if not isinstance(stages, list) or not stages or not all("name" in entry for entry in stages):
        raise DataError(f"{file} must hold a list `stages` with at least one stage")
    return stages


def finished(folder: Path) -> Iterator[Path]:
    """The finished runs below a folder, in order; runs and checkpoints are not searched."""
    if (folder / workdir.SUMMARY).exists():
        yield folder
        return
    for inner in sorted(folder.iterdir()):
        if inner.name != workdir.CHECKPOINTS and inner.is_dir():
            yield from finished(inner)


def unfinished_points(folder: Path) -> list[str]:
    """The points of a sweep in a folder that are not finished."""
    file = folder / workdir.POINTS
    names = files.read_text(file).splitlines() if file.exists() else []
    return [name for name in names if not (folder / name / workdir.SUMMARY).exists()]


def score_names(record: Mapping[str, Any]) -> list[str]:
    """The metrics of evaluators in a record."""
    own = ("data/", records.LOST)
    return [name for name in record if "/" in name and not name.startswith(own)]


def _labels(roots: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    parts = [files.absolute(root).parts for root in roots]
    for length in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(part[-length:]).strip("/") or "/" for part in parts]
        if len(set(labels)) == len(labels):
            return labels
    return [f"{'/'.join(part[-1:])} ({number})" for number, part in enumerate(parts, 1)]


def _with_configs(run: Run) -> Run:
    stages = tuple(stage for stage in run.stages if stage.config)
    damaged = [*run.own_damaged]
    for stage in run.stages:
        if not stage.config:
            damaged += stage.damaged or [f"no file {stage.folder / workdir.CONFIG}"]
    if not stages:
        reason = f": {'; '.join(damaged)}" if damaged else "; is it the --workdir of a training?"
        raise DataError(f"{run.root} holds no stage with a {workdir.CONFIG}{reason}")
    return Run(run.label, run.root, stages, run.plan, tuple(damaged))


def _stage(folder: Path, result: dict[str, Any] | None) -> Stage:
    damaged: list[str] = []
    config = _object(folder / workdir.CONFIG, damaged)
    return Stage(
        name=folder.name,
        folder=folder,
        config=workdir.complete(config) if config else {},
        result=_object(folder / workdir.RESULT, damaged) or result,
        evaluation=_object(folder / workdir.EVALUATION, damaged),
        environment=_object(folder / workdir.ENVIRONMENT, damaged),
        damaged=damaged,
    )


def _object(file: Path, damaged: list[str]) -> Any:
    """The object in a JSON file; None where there is no file, or it cannot be read."""
    if not file.exists():
        return None
    try:
        content = files.read_json(file)
    except DataError as error:
        damaged.append(str(error))
        return None
    if not isinstance(content, dict):
        damaged.append(f"{file} holds no object")
        return None
    return content


def _in_order(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """The stages as given, but none before the one that it starts from."""
    rest, ordered = list(stages), []
    while rest:
        names = {stage.name for stage in rest}
        free = [stage for stage in rest if stage.config.get("after") not in names - {stage.name}]
        ordered.append((free or rest)[0])
        rest.remove(ordered[-1])
    return tuple(ordered)

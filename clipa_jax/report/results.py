"""Results with their intervals, and which of them may stand beside each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clipa_jax.report import format
from clipa_jax.report.runs import Run, Stage
from clipa_jax.training.metrics import is_share


@dataclass(frozen=True)
class Cell:
    """A value as text and, for shares, as numbers in [0, 1] to draw.

    Attributes:
      text, interval: such as `37.7 %` and `35.6 to 39.9`; the interval "" where there is none.
      value, low, high: None where there is nothing to draw.
    """

    text: str
    interval: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Block:
    """One evaluator: rows (metric, cells), the headline first, the others folded away.

    Attributes:
      name: of the evaluator.
      about: data and number of samples.
      mark: why its columns must not be compared; "" where they may be.
      header: of the columns.
      rows, more: pairs (metric, cells).
    """

    name: str
    about: str
    mark: str
    header: tuple[str, ...]
    rows: list[tuple[str, list[Cell]]]
    more: list[tuple[str, list[Cell]]]


@dataclass(frozen=True)
class Score:
    """One metric of an evaluator; the interval is of 95 %, None where there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    count: int | None = None


def of_run(run: Run) -> list[Block]:
    """The results of a run, a column for each stage."""
    return _blocks([(stage.name, stage) for stage in run.stages])


def of_runs(runs: Sequence[Run]) -> list[Block]:
    """The last results of several runs, a column for each run."""
    return _blocks([(run.label, last_evaluated(run)) for run in runs])


def headline(run: Run) -> tuple[str, str, Score] | None:
    """(evaluator, metric, score) that stands for a run: the first accuracy of its last stage."""
    found = scores(last_evaluated(run))
    for metric in ("top1", "i2t_r1", "t2i_r1"):
        for evaluator, known in found.items():
            if metric in known:
                return evaluator, metric, known[metric]
    return None


def interval(metric: str, score: Score) -> str:
    """`35.6 to 39.9`; "" where there is none."""
    if score.low is None or score.high is None:
        return ""
    low, high = (format.score(metric, end).removesuffix(" %") for end in (score.low, score.high))
    return f"{low} to {high}"


def last_evaluated(run: Run) -> Stage:
    """The last stage with scores; the last one where none has any."""
    return next((stage for stage in run.stages[::-1] if scores(stage)), run.stages[-1])


def scores(stage: Stage) -> dict[str, dict[str, Score]]:
    """By evaluator and metric, evaluators in the order of the config.

    Of evaluation.json where there is one, else without intervals.
    """
    found: dict[str, dict[str, Score]] = {name: {} for name in stage.config.get("evals", {})}
    evaluations = (stage.evaluation or {}).get("evaluations", {})
    for name, value in stage.scores.items():
        evaluator, _, metric = name.partition("/")
        found.setdefault(evaluator, {})[metric] = Score(value)
    for evaluator, entry in evaluations.items():
        for metric, one in entry.get("metrics", {}).items():
            found.setdefault(evaluator, {})[metric] = Score(
                one.get("value"), one.get("low"), one.get("high"), one.get("count")
            )
    return {evaluator: metrics for evaluator, metrics in found.items() if metrics}


def marks(runs: Sequence[Run]) -> list[str]:
    """Sentences on what in these runs must not be compared."""
    found = []
    stages = [last_evaluated(run) for run in runs]
    names = dict.fromkeys(name for stage in stages for name in scores(stage))
    for name in names:
        if mark := _mark([stage for stage in stages if name in scores(stage)], name):
            found.append(f"{name}: {mark}")
    found += _training_marks(runs)
    held = {stage.held_out.fingerprint for stage in stages if stage.held_out}
    if len(held) > 1:
        found.append("the held-out pictures or captions differ, and are shown run by run")
    return found


def _training_marks(runs: Sequence[Run]) -> list[str]:
    """A sentence if the runs were trained on different data.

    By its fingerprint where all of them tell it, wherever the data lies; else by its name.
    """
    inputs = [run.stages[-1].config["input"] for run in runs]
    told = [f"{one['source']}, {one['split']}" for one in inputs]
    kinds = told
    data = [(run.stages[-1].environment or {}).get("data") for run in runs]
    if all(data):
        kinds = [str(one["fingerprint"]) for one in data if one]
        told = [
            f"{name}, {format.count(one['num_examples'])} samples"
            for name, one in zip(told, data, strict=True)
            if one
        ]
    if len(set(kinds)) < 2:
        return []
    each = "; ".join(f"{run.label}: {what}" for run, what in zip(runs, told, strict=True))
    return [f"the runs were trained on different data ({each})"]


# What must be the same for two results to be of one kind, by the keys that tell it. Resolution
# may differ: that one stage sees more of a picture is what is compared.
_KIND = (
    ("data", ("data_fingerprint", "source")),
    ("splits", ("split",)),
    ("numbers of samples", ("count",)),
    ("prompts", ("prompts_fingerprint", "templates")),
    ("options", ("options",)),
)


def _mark(stages: Sequence[Stage], evaluator: str) -> str:
    """Why an evaluator's numbers of some stages must not be compared, "" if they may be."""
    differ = [what for what, keys in _KIND if _differs(stages, evaluator, keys)]
    return f"measured on different {' and '.join(differ)}: not to be compared" if differ else ""


def _differs(stages: Sequence[Stage], evaluator: str, keys: Sequence[str]) -> bool:
    """Whether stages differ in the first of some keys that all of them tell."""
    for key in keys:
        told = {repr(_told(stage, evaluator, key)) for stage in stages}
        if "None" not in told:
            return len(told) > 1
    return False


def _told(stage: Stage, evaluator: str, key: str) -> Any:
    """What evaluation.json says of an evaluator, or else its config; None for nothing."""
    entry = (stage.evaluation or {}).get("evaluations", {}).get(evaluator, {})
    return entry.get(key, stage.config.get("evals", {}).get(evaluator, {}).get(key))


def _blocks(columns: Sequence[tuple[str, Stage]]) -> list[Block]:
    found = [(label, stage, scores(stage)) for label, stage in columns]
    blocks = []
    for evaluator in dict.fromkeys(name for _, _, one in found for name in one):
        metrics = dict.fromkeys(m for _, _, one in found for m in one.get(evaluator, {}))
        rows = [
            (metric, [_cell(metric, one.get(evaluator, {}).get(metric)) for _, _, one in found])
            for metric in metrics
        ]
        having = [stage for _, stage, one in found if evaluator in one]
        blocks.append(
            Block(
                name=evaluator,
                about=_about(having[-1], evaluator),
                mark=_mark(having, evaluator),
                header=tuple(label for label, _, _ in found),
                rows=[row for row in rows if "/" not in row[0]],
                more=[row for row in rows if "/" in row[0]],
            )
        )
    return blocks


def _about(stage: Stage, evaluator: str) -> str:
    source, split, count, seconds = (
        _told(stage, evaluator, key) for key in ("source", "split", "count", "seconds")
    )
    parts = [
        str(source or ""),
        f"split {split}" if split else "",
        f"{format.count(count)} samples" if count else "",
        f"{seconds:.1f} s" if seconds else "",
    ]
    return ", ".join(part for part in parts if part)


def _cell(metric: str, score: Score | None) -> Cell:
    if score is None or score.value is None:
        return Cell(format.NONE)
    text, between = format.score(metric, score.value), interval(metric, score)
    if not is_share(metric):
        return Cell(text, between)
    return Cell(text, between, score.value, score.low, score.high)

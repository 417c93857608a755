"""Results with their intervals, and warnings where they must not be compared."""

from collections.abc import Sequence
from typing import NamedTuple

from clipa_jax.evaluation import comparability
from clipa_jax.runs import Run, Score, Stage
from clipa_jax.runtime import format
from clipa_jax.runtime.format import is_share


class Cell(NamedTuple):
    """`37.7 %` and `35.6 to 39.9` as texts, and for shares the numbers in [0, 1] to draw."""

    text: str
    interval: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None


class Block(NamedTuple):
    """The evaluator `name` on the data `about`, and why its columns must not be compared, if so.

    Rows are pairs (metric, cells); `more` has those of groups of classes.
    """

    name: str
    about: str
    warning: str
    header: tuple[str, ...]
    rows: list[tuple[str, list[Cell]]]
    more: list[tuple[str, list[Cell]]]


def of_run(run: Run) -> list[Block]:
    """The results of a run, a column per stage."""
    return _blocks([(stage.name, stage) for stage in run.stages])


def of_runs(runs: Sequence[Run]) -> list[Block]:
    """The last results of several runs, a column per run."""
    return _blocks([(run.label, run.last_evaluated) for run in runs])


def interval(metric: str, score: Score) -> str:
    """`35.6 to 39.9`; "" where there is none."""
    if score.low is None or score.high is None:
        return ""
    low, high = (format.score(metric, end).removesuffix(" %") for end in (score.low, score.high))
    return f"{low} to {high}"


def warnings(runs: Sequence[Run]) -> list[str]:
    """Sentences on what must not be compared between runs."""
    sentences = []
    stages = [run.last_evaluated for run in runs]
    for name in dict.fromkeys(name for stage in stages for name in stage.scores):
        if warning := _warning([stage for stage in stages if name in stage.scores], name):
            sentences.append(f"{name}: {warning}")
    last = [run.stages[-1] for run in runs]
    if comparability.differing([stage.training_facts for stage in last], [comparability.TRAIN]):
        data = "; ".join(f"{run.label}: {_training_data(run.stages[-1])}" for run in runs)
        sentences.append(f"the runs were trained on different data ({data})")
    if len({stage.held_out.fingerprint for stage in stages if stage.held_out}) > 1:
        sentences.append("the held-out pictures or captions differ, and are shown run by run")
    return sentences


def _training_data(stage: Stage) -> str:
    inputs, data = stage.config["input"], (stage.environment or {}).get("data") or {}
    samples = f", {format.count(data['num_examples'])} samples" if "num_examples" in data else ""
    return f"{inputs['source']}, {inputs['split']}{samples}"


def _warning(stages: Sequence[Stage], evaluator: str) -> str:
    """A warning if an evaluator's scores of some stages are not comparable, else ""."""
    facts = [stage.facts(evaluator) for stage in stages]
    differ = comparability.differing(facts, [evaluator], comparability.OF_STAGES)
    keys = " and ".join(dict.fromkeys(differ.values()))
    return f"measured with different {keys}: not to be compared" if differ else ""


def _blocks(columns: Sequence[tuple[str, Stage]]) -> list[Block]:
    blocks = []
    for evaluator in dict.fromkeys(name for _, stage in columns for name in stage.scores):
        scores = [stage.scores.get(evaluator, {}) for _, stage in columns]
        rows = [
            (metric, [_cell(metric, by_metric.get(metric)) for by_metric in scores])
            for metric in dict.fromkeys(metric for by_metric in scores for metric in by_metric)
        ]
        evaluated = [stage for _, stage in columns if evaluator in stage.scores]
        blocks.append(
            Block(
                evaluator,
                _about(evaluated[-1], evaluator),
                _warning(evaluated, evaluator),
                header=tuple(label for label, _ in columns),
                rows=[row for row in rows if "/" not in row[0]],
                more=[row for row in rows if "/" in row[0]],
            )
        )
    return blocks


def _about(stage: Stage, evaluator: str) -> str:
    """Data, number of samples and time of an evaluator."""
    about = {**stage.evals.get(evaluator, {}), **stage.entries.get(evaluator, {})}
    source, split, count, seconds = map(about.get, ("source", "split", "count", "seconds"))
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

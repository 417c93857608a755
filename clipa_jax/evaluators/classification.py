"""Metrics of classification, from scores and right classes.

B rows of a batch, N pictures, C classes, E embedding.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from clipa_jax.evaluators import prompts, scores
from clipa_jax.evaluators.embed import Embedded
from clipa_jax.evaluators.labels import Labels
from clipa_jax.evaluators.outcome import Outcome

Rows = dict[str, np.ndarray]
TOP = 5  # top-5 is reported for more classes


@dataclass(frozen=True)
class Metric:
    """A metric of classification."""

    # (scores (B, C), right classes bool (B, C)) -> arrays with a row a picture
    of_batch: Callable[[np.ndarray, np.ndarray], Rows]
    # (ids, these arrays of N pictures, C) -> named outcomes
    outcomes: Callable[[np.ndarray, Rows, int], Iterator[tuple[str, Outcome]]]
    # arrays -> right pictures, bool (N,); None where a picture is not right or wrong
    hits: Callable[[Rows], np.ndarray] | None
    empty: bool  # whether a picture of no class counts


def _ranks(score_BC: np.ndarray, right_BC: np.ndarray) -> Rows:
    several_B = right_BC.sum(axis=1) > 1
    class_B = np.where(several_B, -1, np.argmax(right_BC, axis=1))
    return {"rank": scores.ranks_of_best(score_BC, right_BC), "class": class_B}


def _accuracy(ids: np.ndarray, rows: Rows, classes: int) -> Iterator[tuple[str, Outcome]]:
    """`top1`, `top5` and, where each picture has one class, `mean_recall`."""
    rank_N, class_N = rows["rank"], rows["class"]
    yield "top1", Outcome.mean(ids, rank_N < 1)
    if classes > TOP:
        yield "top5", Outcome.mean(ids, rank_N < TOP)
    if np.all(class_N >= 0):
        yield "mean_recall", Outcome.of("class_mean", ids, value_N=rank_N < 1, class_N=class_N)


def _average_precision(ids: np.ndarray, rows: Rows, classes: int) -> Iterator[tuple[str, Outcome]]:
    """`map`, the mean over classes of their average precision."""
    del classes
    name = "mean_average_precision"
    yield "map", Outcome.of(name, ids, score_NC=rows["score"], right_NC=rows["right"])


METRICS = {
    # A picture of several classes (ImageNet-ReaL) is right if the best class is one of them.
    "accuracy": Metric(_ranks, _accuracy, lambda rows: rows["rank"] < 1, empty=False),
    "mean_average_precision": Metric(
        lambda score_BC, right_BC: {"score": score_BC, "right": right_BC},
        _average_precision,
        None,
        empty=True,
    ),
}


def classify(
    split: Embedded, class_CE: np.ndarray, labels: Labels, metric: Metric, chunk: int
) -> tuple[Rows, Embedded]:
    """The rows of the metric of the pictures that count, and these pictures; `chunk` at a time."""
    parts, counts = [], []
    for batch in split.batches(chunk):
        right_BC = labels.of(batch.features)
        count_B = np.asarray(right_BC.any(axis=1) | metric.empty)
        score_BC = batch.image_NE @ class_CE.T
        parts.append(metric.of_batch(score_BC[count_B], right_BC[count_B]))
        counts.append(count_B)
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return rows, split.rows(np.flatnonzero(np.concatenate(counts)))


def groups(
    id_N: np.ndarray,
    hit_N: np.ndarray,
    group_N: np.ndarray,
    groups: Sequence[str],
    without: Sequence[str],
) -> Iterator[tuple[str, Outcome]]:
    """Accuracy of each group, and of all pictures outside it where `without` names it."""
    for index, group in enumerate(groups):
        for prefix, member_N in (
            ("top1/", group_N == index),
            ("top1/not_", (group_N != index) & (group in without)),
        ):
            if np.any(member_N):
                name = prefix + prompts.slug(group)
                yield name, Outcome.mean(id_N[member_N], hit_N[member_N])

"""Metrics of classification against scikit-learn and by hand, batch by batch as evaluators go."""

import numpy as np
import pytest
from sklearn import metrics

from clipa_jax.evaluators import classification, labels
from clipa_jax.evaluators.outcome import STATISTICS

CLASSES = 7


def read(rows, outside=labels.ERROR, classes=CLASSES):
    reader = labels.Labels("label", np.arange(classes), classes, outside, ValueError)
    return reader.of({"label": rows})


def outcomes(name, score_NC, rows, batch=4):
    """Values of a metric, its rows gathered in batches of which the last is short."""
    metric = classification.METRICS[name]
    parts = [
        metric.of_batch(score_NC[start : start + batch], read(rows[start : start + batch]))
        for start in range(0, len(rows), batch)
    ]
    ids = np.array([f"id{number}" for number in range(len(rows))])
    joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    found = metric.outcomes(ids, joined, score_NC.shape[1])
    return {key: outcome.value for key, outcome in found}


def test_accuracies_are_those_of_scikit_learn_with_a_class_missing():
    rng = np.random.default_rng(0)
    score_NC = rng.normal(size=(61, CLASSES))
    label_N = rng.integers(0, CLASSES - 1, 61)  # the last class has no picture
    score_NC[np.arange(61), label_N] += 1
    values = outcomes("accuracy", score_NC, label_N.tolist())
    answer_N = score_NC.argmax(axis=1)
    every = np.arange(CLASSES)
    assert values == pytest.approx(
        {
            "top1": metrics.accuracy_score(label_N, answer_N),
            "top5": metrics.top_k_accuracy_score(label_N, score_NC, k=5, labels=every),
            # scikit-learn counts a class that is only ever answered as one without recall.
            "mean_recall": metrics.recall_score(
                label_N, answer_N, average="macro", labels=np.unique(label_N)
            ),
        }
    )
    assert values["mean_recall"] == pytest.approx(
        np.mean([np.mean(answer_N[label_N == c] == c) for c in range(CLASSES - 1)])
    )


def test_ties_by_hand():
    score_NC = np.array([[1.0, 1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0], [2, 2, 2, 2, 2, 2, 2]])
    values = outcomes("accuracy", score_NC, [0, 1, 5])
    assert values == pytest.approx({"top1": 1 / 3, "top5": 2 / 3, "mean_recall": 1 / 3})


def test_any_of_several_classes_is_right_and_has_no_recall():
    score_NC = np.eye(CLASSES)[[0, 1, 2, 3]]
    values = outcomes("accuracy", score_NC, [[0, 6], [0], [5, 4, 2], [3]])
    assert values == pytest.approx({"top1": 3 / 4, "top5": 1})
    one_each = outcomes("accuracy", score_NC, [[0], [0], [2], [3]])
    assert one_each["mean_recall"] == pytest.approx((0.5 + 1 + 1) / 3)


def test_average_precision_is_that_of_scikit_learn_with_ties():
    rng = np.random.default_rng(1)
    score_NC = rng.integers(0, 6, (53, CLASSES)).astype(float)
    right_NC = rng.random((53, CLASSES)) < 0.3
    right_NC[:, 4] = False  # no picture of this class
    rows = [np.flatnonzero(right).tolist() for right in right_NC]
    there = [c for c in range(CLASSES) if c != 4]
    want = metrics.average_precision_score(right_NC[:, there], score_NC[:, there], average="macro")
    assert outcomes("mean_average_precision", score_NC, rows) == pytest.approx({"map": want})
    # In any order of the pictures, and with pictures drawn twice.
    rows_N = rng.integers(0, 53, 53)
    drawn = STATISTICS["mean_average_precision"](score_NC[rows_N], right_NC[rows_N])
    there = [c for c in range(CLASSES) if right_NC[rows_N, c].any()]
    want = metrics.average_precision_score(right_NC[rows_N][:, there], score_NC[rows_N][:, there])
    assert drawn == pytest.approx(want)


def test_average_precision_by_hand():
    score_NC = np.array([[0.9], [0.8], [0.7], [0.6]])
    right_NC = np.array([[True], [False], [True], [False]])
    statistic = STATISTICS["mean_average_precision"]
    assert statistic(score_NC, right_NC) == pytest.approx((1 + 2 / 3) / 2)
    nan = np.where(np.arange(4)[:, None] == 0, np.nan, score_NC)
    assert statistic(nan, right_NC) == pytest.approx((1 / 2 + 2 / 4) / 2)
    with pytest.raises(ValueError, match="no picture is right for any class"):
        statistic(score_NC, np.zeros_like(right_NC))

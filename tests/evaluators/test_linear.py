import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from clipa_jax.evaluators import linear

CLASSES = 4


def examples(count, width, seed=0):
    rng = np.random.default_rng(seed)
    label_N = np.arange(count) % CLASSES
    centre_CD = rng.normal(size=(CLASSES, width))
    return (centre_CD[label_N] + rng.normal(size=(count, width))).astype(np.float32), label_N


@pytest.mark.parametrize(("count", "width"), [(12, 20), (90, 6)])
def test_ridge_is_scikit_learns_on_either_side_of_the_square(count, width, monkeypatch):
    monkeypatch.setattr(linear, "_CHUNK", 16)  # the last chunk is short
    x_ND, label_N = examples(count, width)
    model = linear.ridge(x_ND, label_N, CLASSES, 3.0)
    x_ND = x_ND.astype(np.float64)
    design = (x_ND - x_ND.mean(0)) / (x_ND.std(0) + 1e-5)
    design = np.hstack([design, np.full((count, 1), 100.0)])
    theirs = Ridge(alpha=3.0, fit_intercept=False, solver="cholesky")
    theirs.fit(design, 2.0 * np.eye(CLASSES)[label_N] - 1)
    np.testing.assert_allclose(model.scores(x_ND), theirs.predict(design), atol=1e-6)


def test_ridge_of_one_example_a_class_names_it():
    x_ND, label_N = examples(CLASSES, 8)
    model = linear.ridge(x_ND, label_N, CLASSES, 2.0**10)
    assert model.scores(x_ND).argmax(axis=1).tolist() == label_N.tolist()


def test_logistic_is_scikit_learns():
    x_ND, label_N = examples(80, 5)
    model = linear.logistic(x_ND, label_N, CLASSES, 0.5)
    theirs = LogisticRegression(C=2.0, max_iter=1000).fit(x_ND.astype(np.float64), label_N)
    np.testing.assert_allclose(model.scores(x_ND), theirs.decision_function(x_ND), atol=1e-5)


@pytest.mark.parametrize("there", [(2,), (1, 3), (0, 1, 3)])
def test_classes_without_an_example_never_win(there):
    x_ND, label_N = examples(60, 5)
    mine = np.isin(label_N, there)
    model = linear.logistic(x_ND[mine], label_N[mine], CLASSES, 1.0)
    answers = model.scores(x_ND).argmax(axis=1)
    assert set(answers.tolist()) <= set(there)
    assert np.mean(answers[mine] == label_N[mine]) > 0.8

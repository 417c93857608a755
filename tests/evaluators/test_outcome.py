import numpy as np
import pytest

from clipa_jax.evaluators import outcome
from clipa_jax.evaluators.contrastive import Contrastive
from clipa_jax.evaluators.outcome import Outcome, unique_ids
from clipa_jax.evaluators.retrieval import Retrieval
from clipa_jax.evaluators.zero_shot import ZeroShot
from tests.evaluators.conftest import make

HELD_OUT = {"name": "x", "source": "fake", "split": "heldout", "batch_size": 4}
IDS = ["a", "b", "c", "d", "e"]


def test_mean_of_any_rows():
    found = Outcome.mean(IDS, np.array([1, 0, 0, 1, 1], bool))
    assert (found.value, found.count) == (0.6, 5)
    assert found.statistic(np.array([0, 0, 1])) == pytest.approx(2 / 3)


def test_class_mean_of_any_rows_leaves_out_classes_that_are_not_drawn():
    found = Outcome.of(
        "class_mean", IDS, value_N=np.array([1, 0, 1, 1, 0]), class_N=np.array([3, 3, 3, 0, 0])
    )
    assert found.value == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found.statistic(np.array([0, 1, 1, 1])) == pytest.approx(1 / 4)
    assert found.statistic(np.array([0, 1, 3])) == pytest.approx((1 / 2 + 1) / 2)


def test_a_statistic_of_ones_own_is_chosen_by_name(monkeypatch):
    monkeypatch.setitem(outcome.STATISTICS, "widest", lambda x_NK: float(np.ptp(x_NK)))
    found = Outcome.of("widest", ["a", "b", "c"], x_NK=np.array([[1, 2], [5, 0], [3, 3]]))
    assert found.value == 5
    assert found.statistic(np.array([0, 2])) == 2


def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="2 ids for arrays of lengths"):
        Outcome.mean(["a", "b"], np.zeros(3))
    with pytest.raises(ValueError, match="2 ids of which 1 differ"):
        Outcome.mean(["a", "a"], np.zeros(2))
    with pytest.raises(ValueError, match="no samples"):
        Outcome.mean([], np.zeros(0))


def test_ids_are_made_unique_and_stay_where_they_are():
    assert unique_ids(["a", "", "b", "a", ""]) == ["a", "#1", "b", "a#2", "#4"]
    assert unique_ids(["a", "a", "a#2"]) == ["#0", "#1", "#2"]


def test_the_value_of_an_outcome_is_the_statistic_of_its_samples(world):
    _, model = world
    env = model.context()
    for evaluator in (
        make(ZeroShot, env, label="concept", by="group", without=("flags",), **HELD_OUT),
        make(Retrieval, env, **HELD_OUT),
        make(Contrastive, env, candidates=4, **HELD_OUT),
    ):
        for _, one in evaluator.outcomes(model.state):
            assert one.statistic(np.arange(one.count)) == pytest.approx(one.value, rel=1e-12)


def test_samples_of_each_evaluator_are_named(world):
    _, model = world
    env = model.context()
    pictures = [f"id/{i}" for i in range(11)]
    zero_shot = dict(
        make(ZeroShot, env, label="concept", by="group", **HELD_OUT).outcomes(model.state)
    )
    assert zero_shot["top1"].ids.tolist() == pictures
    assert zero_shot["top1/flags"].ids.tolist() == pictures[::2]
    retrieval = dict(make(Retrieval, env, **HELD_OUT).outcomes(model.state))
    assert retrieval["i2t_r1"].ids.tolist() == pictures
    # Row i has one caption, or two of which the second is shared.
    queries = [f"id/{i}/{n}" for i in range(11) for n in range(1 + (i % 3 > 0))]
    assert retrieval["t2i_r1"].ids.tolist() == queries
    pictures_of = [int(query.split("/")[1]) for query in queries]
    assert retrieval["t2i_r1"].unit_N.tolist() == pictures_of
    contrastive = dict(make(Contrastive, env, **HELD_OUT).outcomes(model.state))
    assert sorted(contrastive["loss"].ids.tolist()) == sorted(pictures)


def test_what_is_evaluated_is_told_without_evaluating(world):
    _, model = world
    env = model.context()
    info = make(ZeroShot, env, label="concept", templates=("{}", "a {}"), **HELD_OUT).info()
    assert (info.source, info.split, info.preprocess) == ("fake", "heldout", "decode")
    assert info.num_examples == 11
    assert list(info.prompts[:3]) == ["class 0", "a class 0", "class 1"]
    assert make(Retrieval, env, **HELD_OUT).info().prompts is None
    assert model.batch_shapes == set()

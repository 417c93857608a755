"""Pairs of numbers of one kind, or a sentence why there are none."""

import numpy as np
import pytest

from clipa_jax.evaluation import comparability, comparison, rendering
from clipa_jax.evaluators import Outcome
from tests.helpers.fake_results import HIT_N, IDS, OUTCOMES, Fake, make


def compare(a, b, across=()):
    return comparison.compare(make({"fake": a}, "A"), make({"fake": b}, "B"), across)


def test_the_difference_is_b_minus_a():
    better = {
        **OUTCOMES,
        "top1": Outcome.mean(IDS, np.ones(6, bool)),
        "new": Outcome.mean(IDS, HIT_N),
    }
    found = compare(Fake(), Fake(better))
    assert (found["a"]["checkpoint"], found["b"]["checkpoint"]) == ("A", "B")
    entry = found["evaluations"]["fake"]
    top1 = entry["metrics"]["top1"]
    assert (top1["a"], top1["b"]) == (pytest.approx(4 / 6), 1.0)
    assert top1["difference"] == pytest.approx(2 / 6)
    assert top1["low"] <= top1["difference"] <= top1["high"]
    assert (top1["count"], top1["count_a"], top1["count_b"]) == (6, 6, 6)
    assert entry["metrics"]["mean_recall"]["difference"] == 0
    assert entry["metrics"]["loss"]["difference"] is None
    assert "new" not in entry["metrics"]
    assert entry["marks"] == [] and found["refused"] == {}


@pytest.mark.parametrize(
    ("what", "about"),
    [
        ("data", {"data_fingerprint": "d1"}),
        ("preprocess", {"preprocess": "decode|resize(16)"}),
        ("prompts", {"prompts": ["a cat"]}),
    ],
)
def test_numbers_of_another_kind_are_refused_and_both_are_said(what, about):
    found = compare(Fake(), Fake(**about))
    assert found["evaluations"] == {}
    [reason] = found["refused"]["fake"]
    assert reason["what"] == what and reason["a"] != reason["b"]
    assert f"not compared, {what} differ: fake: " in rendering.text(found)


def test_some_differences_may_be_asked_for_and_are_marked():
    found = compare(Fake(), Fake(preprocess="decode|resize(16)"), across=["preprocess"])
    [mark] = found["evaluations"]["fake"]["marks"]
    assert mark == {"what": "preprocess", "a": "decode", "b": "decode|resize(16)"}
    assert "preprocess differ: decode in A, decode|resize(16) in B" in rendering.markdown(found)
    assert "data" not in comparability.ON_REQUEST


def test_what_is_said_of_several_is_said_once():
    a, b = ({name: Fake(preprocess=ops) for name in ("x", "y")} for ops in ("decode", "crop"))
    found = comparison.compare(make(a), make(b), ["preprocess"])
    assert rendering.text(found).count("preprocess differ") == 1
    assert "x, y: preprocess differ: decode in A, crop in B" in rendering.text(found)


def test_options_that_change_the_number_are_compared():
    a, b = make(), make()
    b.report["evaluations"]["fake"]["options"] = {"ks": [1], "batch_size": 8, "templates": "photo"}
    [reason] = comparison.compare(a, b)["refused"]["fake"]
    assert reason == {"what": "options", "a": "ks=[1, 5]", "b": "ks=[1]"}


def test_samples_that_only_one_has_are_left_out_and_marked():
    ids = ["another", *IDS[1:]]
    found = compare(
        Fake({"top1": Outcome.mean(IDS, HIT_N)}), Fake({"top1": Outcome.mean(ids, HIT_N)})
    )
    entry = found["evaluations"]["fake"]
    assert entry["metrics"]["top1"]["count"] == 5
    assert [mark["what"] for mark in entry["marks"]] == ["samples"]
    assert "6 samples, 5 of them in both" in rendering.text(found)
    others = Fake({"top1": Outcome.mean([f"x{n}" for n in range(6)], HIT_N)})
    found = compare(Fake({"top1": Outcome.mean(IDS, HIT_N)}), others)
    assert found["refused"]["fake"][0]["a"] == "none in common"


def test_labels_that_changed_are_other_data():
    other = Outcome.of("class_mean", IDS, value_N=HIT_N, class_N=np.array([0, 1, 1, 1, 2, 2]))
    found = compare(Fake({"mean_recall": OUTCOMES["mean_recall"]}), Fake({"mean_recall": other}))
    assert found["refused"]["fake"][0]["what"] == "data"


def test_evaluations_that_only_one_has_are_named():
    found = comparison.compare(
        make({"fake": Fake(), "x": Fake()}), make({"fake": Fake(), "y": Fake()})
    )
    assert (found["only_a"], found["only_b"]) == (["x"], ["y"])
    assert "y was evaluated in B alone" in rendering.text(found)

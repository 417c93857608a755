"""Averages over seeds, and what is never averaged."""

import json
import math

import pytest

from clipa_jax.config import recipes
from clipa_jax.errors import DataError
from clipa_jax.report import find_runs, sweep_text
from clipa_jax.report.groups import Estimate, group, of_stage
from tests.helpers.sweep_runs import plant

TOP1 = "zero_shot/top1"


def rows(root):
    return find_runs.read([root]).rows


def test_mean_error_and_interval_by_hand():
    one = Estimate.of([1.0, 2.0, 6.0])
    assert one.mean == 3 and one.count == 3
    assert one.error == pytest.approx(math.sqrt(7 / 3))  # variance 14 / 2, of three
    assert one.high - one.mean == pytest.approx(4.30265 * one.error, rel=1e-5)  # t, 2 degrees
    assert one.mean - one.low == pytest.approx(one.high - one.mean)
    assert Estimate.of([2.0]) == Estimate(2.0, None, None, None, 1)


def test_by_default_the_keys_that_differ_tell_groups_apart(tmp_path):
    for rate in (0.01, 0.002):
        for seed in (0, 1, 2):
            keys = {"seed": seed, "optim__lr_per_256": rate, "cpu_devices": seed + 1}
            plant(tmp_path / f"{rate}/{seed}", rate * 10 + seed / 100, **keys)
    groups, notes = group(rows(tmp_path), [], ["seed"], [TOP1])
    assert [dict(one.by) for one in groups] == [
        {"optim.lr_per_256": 0.002},
        {"optim.lr_per_256": 0.01},
    ]
    assert [one.score(TOP1).mean for one in groups] == [pytest.approx(0.03), pytest.approx(0.11)]
    assert groups[0].score(TOP1).error == pytest.approx(0.01 / math.sqrt(3))
    assert (
        groups[0].cost("total_samples") == recipes.load("scaling/pretrain").total_examples
        and notes == []
    )
    lines = sweep_text.cells(groups, [TOP1])
    assert lines[1][0] == "0.002" and lines[1][-1] == "3.00 ± 0.58"


def test_keys_of_earlier_stages(tmp_path):
    for res in (64, 32):
        for seed in (0, 1):
            stages = ("pretrain", "finetune")
            folder = tmp_path / f"{res}/{seed}"
            plant(folder, res / 100, stages=stages, seed=seed, pretrain___input__res=res)
    last = of_stage(rows(tmp_path), "")
    assert {row.stage for row in last} == {"finetune"}
    groups, _ = group(last, [], ["seed"], [TOP1])
    assert [dict(one.by) for one in groups] == [{"pretrain.input.res": n} for n in (32, 64)]
    assert [len(one.rows) for one in groups] == [2, 2]
    groups, _ = group(of_stage(rows(tmp_path), "pretrain"), ["image_tokens"], ["seed"], [TOP1])
    assert [one.by["image_tokens"] for one in groups] == [17, 65]
    with pytest.raises(DataError, match="no stage 'finetun'; nearest: finetune"):
        of_stage(rows(tmp_path), "finetun")


def test_other_keys_are_not_averaged_in_silence(tmp_path):
    plant(tmp_path / "a", 0.1, optim__b2=0.9)
    plant(tmp_path / "b", 0.2, optim__b2=0.99, optim__weight_decay=0.3)
    both = rows(tmp_path)
    said = (
        r"a and b would be averaged, but optim.b2 is 0.9 and 0.99 and 1 more keys; name it in --by"
    )
    with pytest.raises(DataError, match=said):
        group(both, ["model.size"], ["seed"], [TOP1])
    [one], _ = group(both, ["model.size"], ["seed", "optim.b2", "optim.weight_decay"], [TOP1])
    assert one.score(TOP1).mean == pytest.approx(0.15)
    with pytest.raises(DataError, match=r"no run has the key 'optim.b3'; nearest: optim.b[12]"):
        group(both, ["optim.b3"], ["seed"], [TOP1])


def test_runs_that_went_further_are_a_group_of_their_own(tmp_path):
    plant(tmp_path / "a", 0.1, stages=("pretrain", "finetune"))
    plant(tmp_path / "b", 0.2, seed=1)
    for by in ([], ["model.size"]):
        groups, _ = group(of_stage(rows(tmp_path), ""), by, ["seed"], [TOP1])
        assert [one.by["stage"] for one in groups] == ["finetune", "pretrain"]
        assert [len(one.rows) for one in groups] == [1, 1]


def test_other_data_are_marked_and_kept_apart(tmp_path):
    plant(tmp_path / "a", 0.1, seed=0)
    plant(tmp_path / "b", 0.2, seed=1)
    plant(tmp_path / "c", 0.6, seed=2, extra={"data": "5678"})
    groups, [note] = group(rows(tmp_path), [], ["seed"], [TOP1])
    assert [(one.data, len(one.rows)) for one in groups] == [("A", 2), ("B", 1)]
    assert note.endswith(": A: train.fingerprint 1234; B: train.fingerprint 5678")
    assert [line[0] for line in sweep_text.cells(groups, [TOP1])] == ["data", "A", "B"]


def evaluated(**changes):
    one = {"source": "tfds:x", "split": "test", "count": 100, "prompts_fingerprint": "ab"}
    one["data_fingerprint"] = "f0"
    return {"evaluations": {"zero_shot": {**one, "metrics": {}, **changes}}}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"count": 90}, "zero_shot.count"),
        ({"split": "val"}, "zero_shot.split"),
        ({"prompts_fingerprint": "cd"}, "zero_shot.prompts"),
        ({"data_fingerprint": "f1"}, "zero_shot.data"),
        ({"data_fingerprint": None, "source": "tfds:y"}, "zero_shot.source"),
    ],
)
def test_other_evaluations_are_other_data_for_their_own_metrics(tmp_path, change, field):
    plant(tmp_path / "a", 0.1, evaluation=evaluated())
    plant(tmp_path / "b", 0.2, seed=1, evaluation=evaluated(**change))
    groups, [note] = group(rows(tmp_path), [], ["seed"], [TOP1])
    assert len(groups) == 2 and field in note
    groups, notes = group(rows(tmp_path), [], ["seed"], ["contrastive/loss"])
    assert len(groups) == 1 and notes == []


def test_the_same_data_elsewhere_and_older_runs_agree(tmp_path):
    plant(tmp_path / "a", 0.1)
    plant(tmp_path / "b", 0.2, seed=1, input__source="tfds:/elsewhere/emoji/1.0.0")
    for run, source in (("a", "tfds:x"), ("b", "tfds:y")):
        file = tmp_path / run / "pretrain" / "evaluation.json"
        file.write_text(json.dumps(evaluated(source=source)))
    groups, _ = group(rows(tmp_path), [], ["seed"], [TOP1])
    assert len(groups) == 1  # the fingerprints say so
    plant(tmp_path / "c", 0.2, seed=2, extra={"data": None}, evaluation=evaluated())
    [_, _, old] = rows(tmp_path)
    assert old.data["train.fingerprint"] is None
    groups, [note] = group(rows(tmp_path), [], ["seed"], [TOP1])
    assert "train.source" in note  # without one, the path has to do


def test_the_same_run_twice_is_said(tmp_path):
    plant(tmp_path / "a", 0.1)
    plant(tmp_path / "b", 0.1)
    _, [note] = group(rows(tmp_path), [], ["seed"], [TOP1])
    assert note == "a and b have the same config and seed; both are counted"


def test_a_single_run_shows_the_interval_of_its_evaluation(tmp_path):
    interval = {"top1": {"value": 0.3, "low": 0.2, "high": 0.4, "count": 7}}
    plant(tmp_path / "a", 0.3, evaluation=evaluated(metrics=interval))
    [one], _ = group(rows(tmp_path), ["model.size"], ["seed"], [TOP1])
    assert sweep_text.estimate(one.score(TOP1), TOP1) == "30.00 [20.00, 40.00]"
    assert sweep_text.estimate(one.score("contrastive/loss"), "contrastive/loss") == "4.700"
    assert sweep_text.estimate(one.score("x/y"), "x/y") == "-"


def test_runs_evaluated_with_other_options_are_kept_apart(tmp_path):
    for run, candidates in (("a", 256), ("b", 64)):
        plant(tmp_path / run, 0.1, seed=ord(run), evals__contrastive__candidates=candidates)
    groups, [note] = group(rows(tmp_path), [], ["seed"], ["contrastive/loss"])
    assert [len(one.rows) for one in groups] == [1, 1] and "contrastive.options" in note
    groups, notes = group(rows(tmp_path), [], ["seed"], [TOP1])  # of another evaluator
    assert [len(one.rows) for one in groups] == [2] and notes == []
    named = ["seed", "evals.contrastive.candidates"]
    groups, notes = group(rows(tmp_path), ["model.size"], named, ["contrastive/loss"])
    assert [len(one.rows) for one in groups] == [2] and notes == []


def test_runs_that_started_from_other_weights_are_not_averaged(tmp_path):
    plant(tmp_path / "a", 0.1, init="scratch")
    plant(tmp_path / "b", 0.2, seed=1, init="runs/other/pretrain")
    groups, _ = group(rows(tmp_path), [], ["seed"], [TOP1])
    assert [one.by["init"] for one in groups] == ["runs/other/pretrain", "scratch"]
    with pytest.raises(DataError, match="would be averaged, but init is 'scratch' and"):
        group(rows(tmp_path), ["model.size"], ["seed"], [TOP1])

"""From files of runs to rows, and from rows to CSV and back."""

import csv
import json

import pytest

from clipa_jax.config import recipes
from clipa_jax.errors import DataError
from clipa_jax.planning import workload
from clipa_jax.report import find_runs, rows
from tests.helpers.sweep_runs import plant

BOTH = ("pretrain", "finetune")


def test_a_row_for_each_stage_with_what_it_stands_on(tmp_path):
    plant(tmp_path / "a" / "seed_0", 0.25, stages=BOTH, seed=3, pretrain___input__res=32)
    first, second = find_runs.read([tmp_path]).rows
    assert [first.run, first.stage, second.stage] == ["a/seed_0", *BOTH]
    assert first.scores == {"zero_shot/top1": 0.25, "contrastive/loss": 4.75}
    assert (first.own["image_tokens"], second.own["image_tokens"]) == (17, 65)
    assert (second.keys["input.res"], second.keys["pretrain.input.res"]) == (64, 32)
    assert (second.first("input.res"), second.first("seed"), second.before) == (
        32,
        3,
        ("pretrain",),
    )
    assert (first.first("input.res"), first.before) == (32, ())
    assert second.bare("pretrain.optim.b2") == second.bare("optim.b2") == "optim.b2"
    samples = tuple(recipes.load(f"scaling/{stage}").total_examples for stage in BOTH)
    assert (first.costs["total_samples"], second.costs["samples"]) == samples
    assert second.costs["total_samples"] == sum(samples)
    assert second.costs["total_seconds"] == 20


def test_flops_are_those_of_the_planner(tmp_path):
    plant(tmp_path / "a", 0.25, stages=BOTH, mask__ratio=0.75)
    first, second = find_runs.read([tmp_path]).rows
    expected = []
    for stage in BOTH:
        config = recipes.load(f"scaling/{stage}")
        config.mask.ratio = 0.75
        expected.append(workload.read(config).total_flops)
    assert first.costs["flops"] == pytest.approx(expected[0], rel=1e-12)
    assert second.costs["total_flops"] == pytest.approx(sum(expected), rel=1e-12)


def test_what_went_before_elsewhere_is_not_known(tmp_path):
    plant(tmp_path / "a", 0.25, stages=BOTH, finetune___init="/elsewhere/pretrain")
    plant(tmp_path / "b", 0.25, stages=BOTH, finetune___init="scratch")
    _, elsewhere, _, scratch = find_runs.read([tmp_path]).rows
    assert elsewhere.costs["total_samples"] is elsewhere.costs["total_flops"] is None
    assert elsewhere.earlier == {}
    assert scratch.costs["total_samples"] == scratch.costs["samples"]


def test_a_table_is_read_as_it_was_written(tmp_path):
    for seed in (0, 1):
        plant(tmp_path / f"runs/{seed}", 0.1 * seed, stages=BOTH, seed=seed, mask__name="grid")
    evaluation = {
        "evaluations": {
            "zero_shot": {
                "source": "tfds:x",
                "split": "test",
                "count": 7,
                "prompts_fingerprint": "ab",
                "metrics": {"top1": {"value": 0.3, "low": 0.2, "high": 0.4, "count": 7}},
            }
        }
    }
    plant(tmp_path / "runs/2", 0.3, evaluation=evaluation, seed=2)
    found = find_runs.read([tmp_path / "runs"]).rows
    rows.save(found, tmp_path / "runs.csv")
    again = find_runs.read([tmp_path / "runs.csv"]).rows
    assert [(row.run, row.stage) for row in again] == [(row.run, row.stage) for row in found]
    for new, old in zip(again, found, strict=True):
        assert (new.scores, new.costs, new.data) == (old.scores, old.costs, old.data)
        assert (new.intervals, new.before) == (old.intervals, old.before)
        assert new.keys.items() <= old.keys.items()
        assert {key: new.keys[key] for key in ("seed", "model.size", "mask.name")}
        for key in rows.ALWAYS:
            assert (new.own[key], new.first(key)) == (old.own[key], old.first(key))
    assert found[-1].intervals == {"zero_shot/top1": (0.2, 0.4)}
    assert found[-1].data["zero_shot.count"] == "7"
    with (tmp_path / "runs.csv").open() as lines:
        [header, first, *_] = csv.reader(lines)
    cells = dict(zip(header, first, strict=True))
    assert cells["run"] == "0" and cells["config.mask.name"] == "grid"
    assert cells["zero_shot/top1"] == "0.0" and "config.optim.b2" not in header


@pytest.mark.parametrize("value", ["16", "true", "", 16, 0.5, None, "grid", [1, "a"], "a,b"])
def test_a_value_survives_its_cell(value):
    assert rows._value(rows._cell(value)) == value


def test_a_run_is_not_looked_into_and_neither_are_checkpoints(tmp_path):
    plant(tmp_path / "a", 0.25)
    plant(tmp_path / "a" / "inside", 0.5)
    plant(tmp_path / "checkpoints" / "b", 0.5)
    assert [row.run for row in find_runs.read([tmp_path]).rows] == ["a"]
    assert [row.run for row in find_runs.read([tmp_path / "a"]).rows] == ["."]


def test_several_folders_tell_their_runs_apart(tmp_path):
    places = [tmp_path / "x", tmp_path / "y"]
    for place in places:
        plant(place / "a", 0.25)
    assert [row.run for row in find_runs.read(places).rows] == [f"{place}/a" for place in places]


def test_points_that_are_not_finished_are_named(tmp_path):
    plant(tmp_path / "a", 0.25)
    (tmp_path / "points.txt").write_text("a\nb/seed_0\nc\n")
    assert find_runs.read([tmp_path]).missing == ["b/seed_0", "c"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"stages": [{"na', "is not JSON"),
        ('{"stages": [{"name": "pretrain"}]}', "it lacks 'image_tokens'"),
        ("[]", "must hold a list"),
    ],
)
def test_a_summary_that_cannot_be_read_is_left_out_and_named(tmp_path, text, said):
    plant(tmp_path / "a", 0.25)
    plant(tmp_path / "b", 0.5)
    (tmp_path / "a" / "summary.json").write_text(text)
    found = find_runs.read([tmp_path])
    assert [row.run for row in found.rows] == ["b"]
    [sentence] = found.broken
    assert str(tmp_path / "a") in sentence and said in sentence


def test_a_config_of_another_version_costs_the_flops_alone(tmp_path):
    plant(tmp_path / "a", 0.25)
    file = tmp_path / "a" / "pretrain" / "config.json"
    config = json.loads(file.read_text())
    config["model"]["image"]["registers"] = 4
    file.write_text(json.dumps(config))
    found = find_runs.read([tmp_path])
    assert found.rows[0].costs["flops"] is None and found.rows[0].scores["zero_shot/top1"] == 0.25
    assert "a/pretrain/config.json: the FLOPs are not known" in found.broken[0]


def test_nothing_to_collect_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no finished run in .*summary.json"):
        find_runs.read([tmp_path])
    with pytest.raises(DataError, match="no folder .*nowhere"):
        find_runs.read([tmp_path / "nowhere"])
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="is not a table that tools/collect.py wrote"):
        find_runs.read([tmp_path / "x.csv"])

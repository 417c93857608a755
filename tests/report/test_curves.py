import json

import numpy as np
import pytest

from clipa_jax import runs
from clipa_jax.errors import DataError
from clipa_jax.report import curves
from clipa_jax.report.curves import Point
from tests.helpers import fake_runs
from tests.helpers.curve_runs import make_run

TOP1 = "zero_shot/top1"


def accuracy(root):
    return curves.of_run(runs.read_one(root), TOP1)


def pairs(curve):
    return [(point.seconds, point.value) for point in curve.points]


def test_the_accuracy_curve_joins_the_stages_in_time(tmp_path):
    first, second = accuracy(make_run(tmp_path / "W", [[0.1, 0.2], [0.25, 0.3]]))
    assert [(curve.start, curve.stop) for curve in (first, second)] == [(0, 60), (60, 120)]
    assert pairs(second) == [(90.0, 0.25), (120.0, 0.3)]
    assert second.image_tokens == 32


def test_the_training_clock_counts_where_it_was_recorded(tmp_path):
    root = make_run(tmp_path / "W", [[0.1]])
    record = {"step": 9, "seconds": 99.0, "train_seconds": 50.0, TOP1: 0.5}
    (root / "stage_0" / "metrics.jsonl").write_text(json.dumps(record))
    assert pairs(accuracy(root)[0]) == [(50.0, 0.5)]


def test_a_recorded_curve_comes_back_as_it_was(tmp_path):
    [curve] = accuracy(make_run(tmp_path / "W", [[0.1, 0.2]]))
    curves.save([curve], "seed 0 on 2 cores", tmp_path / "curve.json")
    [again], note = curves.load(tmp_path / "curve.json")
    assert note == "seed 0 on 2 cores" and pairs(again) == pairs(curve)
    assert again[:5] == curve[:5]
    (tmp_path / "bad.json").write_text('{"segments": [{"name": "x"}]}')
    with pytest.raises(DataError, match="not a recorded curve"):
        curves.load(tmp_path / "bad.json")


def test_a_run_that_is_not_finished_has_no_accuracy_curve(tmp_path):
    root = make_run(tmp_path / "W", [[0.1, 0.2]])
    (root / "summary.json").unlink()
    with pytest.raises(DataError, match="W is not finished"):
        curves.of_headline(runs.read_one(root))


def test_stages_follow_each_other_on_every_axis(tmp_path):
    [run] = runs.read([fake_runs.run(tmp_path / "W", accuracy=0.4)])
    first, second, third = curves.of_run(run, TOP1)
    assert [point.value for point in third.points] == pytest.approx([0.2, 0.4])
    assert [point.samples for point in second.points] == [300 * 128, 400 * 128]
    assert [point.seconds for point in second.points] == pytest.approx([90, 120])
    flops = [stage.sample_flops for stage in run.stages]
    want = [(200 * flops[0] + 100 * flops[1]) * 128, (200 * flops[0] + 200 * flops[1]) * 128]
    assert [point.flops for point in second.points] == pytest.approx(want)
    assert len(first.points) == 2
    assert len(curves.of_run(run, "loss")[0].points) == 4
    assert all(curve.points == [] for curve in curves.of_run(run, "no/such"))


def test_metrics_of_groups_of_classes_have_no_curve(tmp_path):
    [run] = runs.read([fake_runs.run(tmp_path / "W")])
    assert curves.metrics_of(run) == [TOP1, "contrastive/loss"]


def test_thinning_keeps_the_ends_and_the_mean():
    values = np.random.default_rng(0).normal(size=10_000)
    points = [Point(i, i, None, value) for i, value in enumerate(values.tolist())]
    thin = curves.thinned(points)
    assert len(thin) == curves.MOST
    assert thin[0] == points[0] and thin[-1].samples == 9_999
    assert [point.samples for point in thin] == sorted({point.samples for point in thin})
    mean = np.average([p.value for p in thin[1:]], weights=np.diff([p.samples for p in thin]))
    assert mean == pytest.approx(values[1:].mean())
    assert curves.thinned(points[: curves.MOST]) == points[: curves.MOST]


def test_without_flops_the_other_axes_stay(tmp_path):
    root = fake_runs.run(tmp_path / "W")
    text = (root / "pretrain" / "config.json").read_text()
    (root / "pretrain" / "config.json").write_text(text.replace("mini/8", "unheard/8"))
    [run] = runs.read([root])
    points = [point for curve in curves.of_run(run, "loss") for point in curve.points]
    assert all(point.flops is None for point in points) and points[-1].seconds == 180

import numpy as np
import pytest

from clipa_jax.report import runs, series
from clipa_jax.report.series import Point
from tests.helpers import fake_runs


def test_stages_follow_each_other_on_every_axis(tmp_path):
    [run] = runs.read([fake_runs.run(tmp_path / "W", accuracy=0.4)])
    first, second, third = series.curve(run, "zero_shot/top1")
    assert [point.value for point in third.points] == pytest.approx([0.2, 0.4])
    assert [point.samples for point in second.points] == [300 * 128, 400 * 128]
    assert [point.seconds for point in second.points] == pytest.approx([90, 120])
    flops = [stage.sample_flops for stage in run.stages]
    want = [(200 * flops[0] + 100 * flops[1]) * 128, (200 * flops[0] + 200 * flops[1]) * 128]
    assert [point.flops for point in second.points] == pytest.approx(want)
    assert len(first.points) == 2
    assert len(series.curve(run, "loss")[0].points) == 4
    assert series.curve(run, "no/such") == []


def test_only_headlines_have_curves(tmp_path):
    [run] = runs.read([fake_runs.run(tmp_path / "W")])
    assert series.metrics_of(run) == ["zero_shot/top1", "contrastive/loss"]


def test_thinning_keeps_the_ends_and_the_mean():
    values = np.random.default_rng(0).normal(size=10_000)
    points = [Point(i, i, None, value) for i, value in enumerate(values.tolist())]
    thin = series.thinned(points)
    assert len(thin) == series.MOST
    assert thin[0] == points[0] and thin[-1].samples == 9_999
    assert [point.samples for point in thin] == sorted({point.samples for point in thin})
    mean = np.average([p.value for p in thin[1:]], weights=np.diff([p.samples for p in thin]))
    assert mean == pytest.approx(values[1:].mean())
    assert series.thinned(points[: series.MOST]) == points[: series.MOST]


def test_without_flops_the_other_axes_stay(tmp_path):
    root = fake_runs.run(tmp_path / "W")
    text = (root / "pretrain" / "config.json").read_text()
    (root / "pretrain" / "config.json").write_text(text.replace("mini/8", "unheard/8"))
    [run] = runs.read([root])
    points = [point for one in series.curve(run, "loss") for point in one.points]
    assert all(point.flops is None for point in points) and points[-1].seconds == 180

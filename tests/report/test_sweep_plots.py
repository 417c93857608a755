"""Plots of groups, and what cannot be drawn."""

import pytest
from PIL import Image

from clipa_jax.errors import DataError
from clipa_jax.report import find_runs, sweep_plots
from clipa_jax.report.groups import group, metrics_of
from tests.helpers.sweep_runs import plant

TOP1 = "zero_shot/top1"


@pytest.fixture
def rows(tmp_path):
    for size in ("nano", "mini"):
        for rate in (0.002, 0.004):
            keys = {"model__size": f"{size}/8", "optim__lr_per_256": rate}
            plant(tmp_path / f"runs/{size}/{rate}", 10 * rate, **keys)
    return find_runs.read([tmp_path / "runs"]).rows


def labels(monkeypatch):
    """The label of every line that is drawn, and its points."""
    drawn = {}
    real = sweep_plots.line

    def line(axes, points, metric, index, label=None, **how):
        drawn[label] = [place for place, _ in points]
        real(axes, points, metric, index, label, **how)

    monkeypatch.setattr(sweep_plots, "line", line)
    return drawn


def test_a_line_for_each_of_the_other_settings(rows, tmp_path, monkeypatch):
    drawn = labels(monkeypatch)
    groups, _ = group(rows, [], ["seed"], [TOP1])
    file = sweep_plots.against(groups, "optim.lr_per_256", TOP1, tmp_path / "made" / "x.png")
    assert drawn == {"size mini/8": [0.002, 0.004], "size nano/8": [0.002, 0.004]}
    with Image.open(file) as picture:
        assert picture.format == "PNG" and len(picture.convert("L").getcolors()) > 50


def test_against_a_cost_there_is_a_colour_for_the_first_setting(rows, tmp_path, monkeypatch):
    drawn = labels(monkeypatch)
    groups, _ = group(rows, [], ["seed"], [TOP1])
    sweep_plots.against(groups, sweep_plots.FLOPS, TOP1, tmp_path / "x.png")
    assert list(drawn) == ["size mini/8", "size nano/8"]
    assert drawn["size nano/8"][0] < drawn["size mini/8"][0]


def test_what_cannot_be_drawn_is_said(rows, tmp_path):
    groups, _ = group(rows, [], ["seed"], [TOP1])
    with pytest.raises(DataError, match="model.size is 'mini/8' in .*, not a number; take another"):
        sweep_plots.against(groups, "model.size", TOP1, tmp_path / "x.png")
    with pytest.raises(DataError, match="no run has both zero_shot/top2 and a number for total"):
        sweep_plots.against(groups, sweep_plots.FLOPS, "zero_shot/top2", tmp_path / "x.png")


def test_metrics_that_are_looked_at(rows):
    assert metrics_of(rows, []) == [TOP1]
    assert metrics_of(rows, ["contrastive/loss"]) == ["contrastive/loss"]
    with pytest.raises(DataError, match="no run has the metric 'zero_shot/top2'; nearest: zero_sh"):
        metrics_of(rows, ["zero_shot/top2"])

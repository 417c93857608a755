import json

import pytest

from clipa_jax.errors import DataError
from clipa_jax.report import curves
from tests.helpers.curve_runs import make_run


def test_curve_joins_the_stages_in_time(tmp_path):
    curve = curves.read_curve(make_run(tmp_path / "W", [[0.1, 0.2], [0.25, 0.3]]))
    assert [(s.start, s.stop) for s in curve.segments] == [(0, 60), (60, 120)]
    assert curve.segments[1].points == [(90.0, 0.25), (120.0, 0.3)]
    assert curve.segments[1].image_tokens == 32


def test_the_clock_that_stands_still_in_evaluation_counts(tmp_path):
    run = make_run(tmp_path / "W", [[0.1]])
    record = {"step": 9, "seconds": 99.0, "train_seconds": 50.0, "zero_shot/top1": 0.5}
    (run / "stage_0" / "metrics.jsonl").write_text(json.dumps(record))
    assert curves.read_curve(run).segments[0].points == [(50.0, 0.5)]


def test_recorded_curve_comes_back_as_it_was(tmp_path):
    curve = curves.read_curve(make_run(tmp_path / "W", [[0.1, 0.2]]))
    curve = curves.Curve(curve.segments, "seed 0 on 2 cores")
    curves.save_curve(curve, tmp_path / "curve.json")
    assert curves.load_curve(tmp_path / "curve.json") == curve
    (tmp_path / "bad.json").write_text('{"segments": [{"name": "x"}]}')
    with pytest.raises(DataError, match="not a recorded curve"):
        curves.load_curve(tmp_path / "bad.json")


def test_a_run_that_is_not_finished_is_an_error(tmp_path):
    with pytest.raises(DataError, match="has the run finished"):
        curves.read_curve(tmp_path)

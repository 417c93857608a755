import json

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from clipa_jax import pictures
from clipa_jax.errors import DataError


def make_run(root, shares, seconds=60.0):
    """A run with a stage for each list of accuracies."""
    stages = []
    for index, values in enumerate(shares):
        name = f"stage_{index}"
        (root / name).mkdir(parents=True)
        lines = [
            json.dumps({"step": i, "seconds": seconds * (i + 1) / 2, "zero_shot/top1": value})
            for i, value in enumerate(values)
        ]
        lines.insert(0, json.dumps({"step": 0, "seconds": 1.0, "loss": 3.0}))
        (root / name / "metrics.jsonl").write_text("\n".join(lines))
        stage = {"name": name, "seconds": seconds, "samples_seen": 12800, "num_params": 1}
        stage |= {"image_tokens": 16 << index, "text_tokens": 8, "zero_shot_top1": values[-1]}
        stages.append(stage)
    (root / "summary.json").write_text(json.dumps({"stages": stages}))
    return root


@pytest.fixture
def texts(monkeypatch):
    """All legend labels and texts that are drawn."""
    drawn = []
    real_plot, real_text, real_annotate = Axes.plot, Axes.text, Axes.annotate

    def plot(self, *args, **kwargs):
        drawn.append(str(kwargs.get("label")))
        return real_plot(self, *args, **kwargs)

    def text(self, x, y, s, **kwargs):
        drawn.append(s)
        return real_text(self, x, y, s, **kwargs)

    def annotate(self, s, *args, **kwargs):
        drawn.append(s)
        return real_annotate(self, s, *args, **kwargs)

    monkeypatch.setattr(Axes, "plot", plot)
    monkeypatch.setattr(Axes, "text", text)
    monkeypatch.setattr(Axes, "annotate", annotate)
    return drawn


def test_curve_joins_the_stages_in_time(tmp_path):
    curve = pictures.read_curve(make_run(tmp_path / "W", [[0.1, 0.2], [0.25, 0.3]]))
    assert [(s.start, s.stop) for s in curve.segments] == [(0, 60), (60, 120)]
    assert curve.segments[1].points == [(90.0, 0.25), (120.0, 0.3)]
    assert curve.segments[1].image_tokens == 32


def test_the_clock_that_stands_still_in_evaluation_counts(tmp_path):
    run = make_run(tmp_path / "W", [[0.1]])
    record = {"step": 9, "seconds": 99.0, "train_seconds": 50.0, "zero_shot/top1": 0.5}
    (run / "stage_0" / "metrics.jsonl").write_text(json.dumps(record))
    assert pictures.read_curve(run).segments[0].points == [(50.0, 0.5)]


def test_recorded_curve_comes_back_as_it_was(tmp_path):
    curve = pictures.read_curve(make_run(tmp_path / "W", [[0.1, 0.2]]))
    curve = pictures.Curve(curve.segments, "seed 0 on 2 cores")
    pictures.save_curve(curve, tmp_path / "curve.json")
    assert pictures.load_curve(tmp_path / "curve.json") == curve
    (tmp_path / "bad.json").write_text('{"segments": [{"name": "x"}]}')
    with pytest.raises(DataError, match="not a recorded curve"):
        pictures.load_curve(tmp_path / "bad.json")


def test_picture_says_whether_the_comparison_is_live_or_recorded(tmp_path, texts):
    run = make_run(tmp_path / "W", [[0.1, 0.2], [0.25, 0.3]])
    live = make_run(tmp_path / "C", [[0.05, 0.15]])
    recorded = tmp_path / "curve.json"
    pictures.save_curve(pictures.Curve(pictures.read_curve(live).segments, "2 cores"), recorded)
    options = {"compare": live, "recorded": recorded}
    pictures.accuracy_against_time(run, tmp_path / "a.png", **options)
    assert any("run on this machine" in text for text in texts)
    assert {"30.0 %", "15.0 %", "stage_1\n32 image, 8 text tokens"} <= set(texts)
    texts.clear()
    options["compare"] = tmp_path / "not finished"
    pictures.accuracy_against_time(run, tmp_path / "b.png", **options)
    assert any("(recorded: 2 cores)" in text for text in texts)
    texts.clear()
    pictures.accuracy_against_time(run, tmp_path / "c.png")
    assert not any("full resolution" in text for text in texts)
    assert Image.open(tmp_path / "c.png").size == (1440, 832)


def test_run_without_accuracy_is_an_error(tmp_path):
    run = make_run(tmp_path / "W", [[0.1]])
    with pytest.raises(DataError, match="no value of 'other/top1'"):
        pictures.accuracy_against_time(run, tmp_path / "a.png", metric="other/top1")
    with pytest.raises(DataError, match="has the run finished"):
        pictures.read_curve(tmp_path)


def test_sheet_marks_the_right_caption_and_its_place(tmp_path, texts):
    names = [f"name {i}" for i in range(10)] + ["costs $5 or $6, " + "and a long tail " * 9]
    probability = np.full((3, 11), 0.01, np.float32)
    probability[0, 4] = probability[1, 7] = probability[2, 10] = 0.9
    right = np.array([4, 9, 10])
    images = np.zeros((3, 8, 8, 3), np.uint8)
    out = pictures.top5_sheet(images, names, probability, right, tmp_path / "s.png")
    assert "\u2713 name 4" in texts and "90.0 %" in texts
    assert "\u2713 name 9" not in texts
    assert "right: name 9, place 10 at 1.0 %" in texts
    assert Image.open(out).size[0] == 3 * 720


def test_stage_table_has_a_row_a_stage():
    stage = {"name": "pretrain", "image_tokens": 17, "text_tokens": 8, "samples_seen": 1234567}
    stage |= {"seconds": 75.0, "zero_shot_top1": 0.3456, "retrieval_t2i_r1": 0.25}
    table = pictures.stage_table({"stages": [stage]}).splitlines()
    assert len(table) == 3
    want = ["pretrain", "17", "8", "1,234,567", "1:15", "34.6", "-", "-", "25.0"]
    assert table[2].split() == want
    with pytest.raises(DataError, match="list `stages`"):
        pictures.stage_table({})

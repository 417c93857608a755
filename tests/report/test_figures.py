import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from clipa_jax import runs
from clipa_jax.errors import DataError
from clipa_jax.report import curves, figures
from tests.helpers.curve_runs import make_run
from tests.helpers.fake_runs import guess, shown_picture


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


def test_picture_says_whether_the_comparison_is_live_or_recorded(tmp_path, texts):
    run = runs.read_one(make_run(tmp_path / "W", [[0.1, 0.2], [0.25, 0.3]]))
    live = runs.read_one(make_run(tmp_path / "C", [[0.05, 0.15]]))
    recorded = tmp_path / "curve.json"
    curves.save(curves.of_headline(live), "2 cores", recorded)
    paths = [str(live.root), str(recorded)]
    run.stages[-1].config["logs"] = {"compare": paths}
    figures.accuracy_against_time(run, tmp_path / "a.png", curves.comparison(run))
    assert any("run on this machine" in text for text in texts)
    assert {"30.0 %", "15.0 %", "stage_1\n32 image, 8 text tokens"} <= set(texts)
    texts.clear()
    del paths[0]
    figures.accuracy_against_time(run, tmp_path / "b.png", curves.comparison(run))
    assert any("(recorded: 2 cores)" in text for text in texts)
    texts.clear()
    figures.accuracy_against_time(run, tmp_path / "c.png")
    assert not any("full resolution" in text for text in texts)
    assert Image.open(tmp_path / "c.png").size == (1440, 832)


def test_a_run_without_accuracy_is_an_error(tmp_path):
    root = make_run(tmp_path / "W", [[0.1]])
    (root / "stage_0" / "metrics.jsonl").unlink()
    with pytest.raises(DataError, match="no value of 'zero_shot/top1'"):
        figures.accuracy_against_time(runs.read_one(root), tmp_path / "a.png")


def test_sheet_marks_the_right_caption_and_its_place(tmp_path, texts):
    long = "costs $5 or $6, " + "and a long tail " * 9
    sure = (guess("name 4", 0.9, True), guess("name 0", 0.01, False))
    wrong = (guess("name 7", 0.9, False), guess("name 0", 0.01, False))
    shown = [shown_picture(0, 3, "name 4", 1, 0.9, *sure)]
    shown.append(shown_picture(1, 5, "name 9", 10, 0.01, *wrong))
    shown.append(shown_picture(2, 8, long, 1, 0.9, guess(long, 0.9, True)))
    images = np.zeros((3, 8, 8, 3), np.uint8)
    out = figures.top5_sheet(images, shown, 11, tmp_path / "s.png")
    assert "\u2713 name 4" in texts and "90.0 %" in texts
    assert "\u2713 name 9" not in texts
    assert "right: name 9, place 10 at 1.0 %" in texts
    assert Image.open(out).size[0] == 3 * 720


def test_stage_table_has_a_row_a_stage():
    stage = {"name": "pretrain", "image_tokens": 17, "text_tokens": 8, "samples_seen": 1234567}
    stage |= {"seconds": 75.0, "zero_shot_top1": 0.3456, "retrieval_t2i_r1": 0.25}
    table = figures.stage_table([stage]).splitlines()
    assert len(table) == 3
    want = ["pretrain", "17", "8", "1,234,567", "1:15", "34.6", "-", "-", "25.0"]
    assert table[2].split() == want

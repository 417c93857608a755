"""What `tools/inspect_data.py` finds in data with planted faults."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipa_jax.config import recipes
from clipa_jax.data import sources
from clipa_jax.errors import ConfigError, DataError
from clipa_jax.planning import workload
from clipa_jax.prepare import charts, inspect, inspection, throughput
from clipa_jax.preprocess.text import load_tokenizer
from tests.prepare.conftest import example, write

ROOT = Path(__file__).parents[2]
VOCAB = "data/emoji/vocab.txt"


def config(source: str, name: str = "pretrain", **changes):
    c = recipes.load(f"demo/{name}")
    c.input.source = source
    for key, value in changes.items():
        c.input[key] = value
    return c


@pytest.fixture(scope="module")
def examined(messy, tmp_path_factory):
    out = tmp_path_factory.mktemp("examined")
    return out, inspect.examine(
        config(messy.source),
        out,
        limit=0,
        sheet=8,
        chip=inspect.Chip(samples_per_second=500.0),
        seconds=0.2,
    )


@pytest.fixture
def report(examined):
    """What was found in the messy source."""
    (found,) = examined[1]["sources"]
    return found


def test_samples_are_counted_and_the_bad_ones_named(messy, examined, report):
    assert report["samples"] == report["looked_at"] == messy.total
    unusable = ("decode", "missing_key", "empty_caption", "unreadable")
    assert {r: e["samples"] for r, e in report["bad"].items()} == {
        reason: len(messy.bad[reason]) for reason in unusable
    }
    assert report["good"] == messy.total - 5
    assert report["bad"]["unreadable"]["first"][0].endswith("00002.tfrecord sample 19")
    assert json.loads((examined[0] / inspect.REPORT).read_text()) == examined[1]


def test_sizes_are_those_of_the_pictures(report):
    assert report["short_side"]["least"] == 7
    assert report["short_side"]["median"] == 40
    assert report["short_side"]["most"] == 100
    assert report["aspect"]["most"] == 15
    assert report["smaller_than_res"] == {"res": 16, "samples": 1}


def test_captions_are_held_against_the_budget_of_the_config(report):
    texts = [f"a picture of number {n}" for n in range(30)]
    texts += ["a large picture", "a picture with an alpha channel", "a picture for printers"]
    texts += ["a picture of the nineties", "the same picture in other words", "a tiny picture"]
    texts += ["a long picture", "ab", "a picture of number 1", "a picture of number 1"]
    pieces = load_tokenizer(VOCAB).pieces(texts).row_lengths().numpy()
    captions = report["captions"]
    assert captions["number"] == len(texts) == report["good"] and captions["budget"] == 7
    assert captions["shortened"] == (pieces > 7).sum() > 0
    assert captions["pieces"]["most"] == pieces.max()
    lost = 100 * np.maximum(pieces - 7, 0).sum() / pieces.sum()
    assert captions["pieces_lost_percent"] == pytest.approx(lost, abs=0.006)


def test_what_is_there_twice_is_counted(report):
    assert report["repeated"]["images"]["number"] == 3
    assert report["repeated"]["pairs"]["number"] == 2
    assert report["repeated"]["captions"]["number"] == 2
    assert report["frequent_captions"] == [["a picture of number 1", 3]]


def test_pictures_are_drawn(examined):
    out, _ = examined
    for name, least in (("histograms.png", 30), (inspect.SHEET, 100)):
        small = Image.open(out / name).convert("RGB").resize((300, 100), Image.Resampling.NEAREST)
        assert len(small.getcolors(small.width * small.height)) > least


def test_the_rate_of_the_pipeline_and_the_chips_it_feeds(examined):
    found = examined[1]["pipeline"]
    rate = found["images_per_second_per_core"]
    assert rate > 10
    assert found["samples_per_second_per_chip"] == 500 and found["chip"] == "as stated"
    assert found["cores_per_chip"] == pytest.approx(500 / rate, rel=0.02)
    assert found["chips_fed_by_this_machine"] == pytest.approx(
        found["cores"] * rate / 500, rel=0.02, abs=0.006
    )


def test_the_appetite_of_a_chip_is_its_peak_over_the_work_of_a_sample():
    small = config("tfds:x")
    half, whole = (throughput.chip_appetite(small, "v5e", share) for share in (0.5, 1.0))
    flops = workload.read(small).forward.training
    assert whole == 2 * half == 197e12 / flops
    assert throughput.chip_appetite(small, "h100", 1.0) == 989e12 / flops
    with pytest.raises(ConfigError, match="nearest: v5"):
        inspect.Chip("v5").appetite(small)
    with pytest.raises(ConfigError, match="efficiency 40"):
        inspect.Chip("v5e", 40).appetite(small)


def test_the_report_for_people_says_it_all(examined):
    text = inspect.text(examined[1])
    assert "45 samples, 45 looked at, 40 good" in text
    assert "training would stop" in text
    assert "shortened by 'truncate'" in text
    assert "images 7.5 %, captions 5.0 %, pairs 5.0 %" in text


def test_the_text_under_a_picture_is_what_the_model_gets():
    tokenizer = load_tokenizer(VOCAB)
    (token_L,) = tokenizer.encode(["red heart, love and kisses for everybody"], 6)
    shown = charts.kept_text(tokenizer, token_L)
    assert shown.startswith("red heart , love")
    assert "everybody" not in shown


@pytest.mark.parametrize("limit", [1, 7, 20, 44])
def test_a_limit_is_kept_and_spread_over_the_files(messy, limit):
    source = sources.open(messy.source, "train")
    found = inspection.parts(source, limit)
    assert sum(length for _, _, length in found) == limit
    seen = {(shard, row) for shard, start, n in found for row in range(start, start + n)}
    assert len(seen) == limit
    assert all(row < source.shards[shard].length for shard, row in seen)
    assert len({shard for shard, _ in seen}) == min(limit, 3)


def test_nothing_good_is_an_error_that_shows_the_reasons(tmp_path):
    write(tmp_path / "x.tfrecord", [example(jpg=b"no picture", txt="a caption", key="a")])
    source = f"tfrecord:{tmp_path}/*.tfrecord"
    with pytest.raises(DataError, match=r"(?s)none of 1 samples is any good.*decode +1 +100"):
        inspect.examine(config(source), tmp_path / "out", limit=0, sheet=4, seconds=0)


def test_the_command_line_draws_prints_and_refuses(messy, tmp_path):
    command = [sys.executable, "tools/inspect_data.py", "--config=configs/demo/schedule.py"]
    command += [f"--config.all.input.source={messy.source}", f"--out={tmp_path}"]
    command += ["--limit=12", "--sheet=4", "--seconds=0", "--stage=finetune_1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "45 samples, 12 looked at" in done.stdout
    assert {file.name for file in tmp_path.iterdir()} == {
        "inspection.json",
        "histograms.png",
        "contact_sheet.png",
    }


def test_a_stage_is_chosen_by_name():
    schedule = recipes.load("demo/schedule")
    assert inspect.choose(schedule, "").name == "pretrain"
    assert inspect.choose(schedule, "finetune_2").input.res == 48
    with pytest.raises(ConfigError, match="nearest: finetune_1"):
        inspect.choose(schedule, "finetune1")


def test_no_source_is_refused(tmp_path):
    with pytest.raises(DataError, match="source is empty"):
        inspect.examine(config(""), tmp_path, limit=0, sheet=4, seconds=0)

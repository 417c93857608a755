"""Inspection of data with planted faults."""

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
from clipa_jax.prepare import charts, inspect, source_statistics, throughput
from clipa_jax.preprocess.text import load_tokenizer
from tests.prepare.conftest import example, photo, write

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
        chip=inspect.ChipRate(samples_per_second=500.0),
        seconds=0.2,
        stored=(32, 8),
    )


@pytest.fixture
def report(examined):
    """The entry of the messy source."""
    (source,) = examined[1]["sources"]
    return source


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


def test_captions_are_compared_with_the_token_budget(report):
    texts = [f"a picture of number {n}" for n in range(30)]
    texts += ["a large picture", "a picture with an alpha channel", "a picture for printers"]
    texts += ["a picture of the nineties", "the same picture in other words", "a tiny picture"]
    texts += ["a long picture", "ab", "a picture of number 1", "a picture of number 1"]
    pieces = load_tokenizer(VOCAB).vocabulary.split(texts).row_lengths().numpy()
    captions = report["captions"]
    assert captions["number"] == len(texts) == report["good"] and captions["budget"] == 7
    assert captions["shortened"] == (pieces > 7).sum() > 0
    assert captions["pieces"]["most"] == pieces.max()
    lost = 100 * np.maximum(pieces - 7, 0).sum() / pieces.sum()
    assert captions["pieces_lost_percent"] == pytest.approx(lost, abs=0.006)


def test_repeated_pictures_and_captions_are_counted(report):
    assert report["repeated"]["images"]["number"] == 3
    assert report["repeated"]["pairs"]["number"] == 2
    assert report["repeated"]["captions"]["number"] == 2
    assert report["frequent_captions"] == [["a picture of number 1", 3]]


def test_charts_are_not_blank(examined):
    out, _ = examined
    for name, colors in (("histograms.png", 30), (inspect.SHEET, 100)):
        small = Image.open(out / name).convert("RGB").resize((300, 100), Image.Resampling.NEAREST)
        assert len(small.getcolors(small.width * small.height)) > colors


def test_the_pipeline_rate_gives_the_chips_it_feeds(examined):
    report = examined[1]["pipeline"]
    rate = report["images_per_second_per_core"]
    assert rate > 0
    assert report["samples_per_second_per_chip"] == 500 and report["chip"] == "as stated"
    assert report["cores_per_chip"] == pytest.approx(500 / rate, rel=0.02)
    assert report["chips_fed_by_this_machine"] == pytest.approx(
        report["cores"] * rate / 500, rel=0.02, abs=0.006
    )


def test_smaller_files_change_the_crops_more(examined):
    large, small = examined[1]["stored"]
    assert (large["side"], small["side"]) == (32, 8)
    assert large["kilobytes"] > small["kilobytes"] > 0
    assert 0 < large["mean_difference"] < small["mean_difference"]
    rate = small["images_per_second_per_core"]
    assert small["cores_per_chip"] == pytest.approx(500 / rate, rel=0.02)
    assert "8 px" in inspect.text(examined[1])


def test_smaller_files_without_a_measurement_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="--seconds above 0"):
        inspect.examine(config("tfds:x"), tmp_path, limit=0, sheet=0, seconds=0, stored=(8,))


def test_the_rate_of_a_chip_is_its_peak_over_the_flops_of_a_sample():
    small = config("tfds:x")
    half, whole = (
        throughput.required_samples_per_second(small, "v5e", share) for share in (0.5, 1.0)
    )
    flops = workload.read(small).forward.training
    assert whole == 2 * half == 197e12 / flops
    assert throughput.required_samples_per_second(small, "h100", 1.0) == 989e12 / flops
    with pytest.raises(ConfigError, match="nearest: v5"):
        inspect.ChipRate("v5").resolve(small)
    with pytest.raises(ConfigError, match="efficiency 40"):
        inspect.ChipRate("v5e", 40).resolve(small)


def test_the_text_shows_the_numbers_of_the_report(examined):
    text = inspect.text(examined[1])
    for number in ("45 samples", "40 good", "images 7.5 %", "captions 5.0 %", "pairs 5.0 %"):
        assert number in text


def test_the_sheet_shows_captions_as_the_model_reads_them():
    tokenizer = load_tokenizer(VOCAB)
    (token_L,) = tokenizer.encode(["red heart, love and kisses for everybody"], 6)
    text = charts.kept_text(tokenizer, token_L)
    assert text.startswith("red heart , love")
    assert "everybody" not in text


@pytest.mark.parametrize("limit", [1, 7, 20, 44])
def test_a_limit_is_spread_over_the_files(messy, limit):
    source = sources.open(messy.source, "train")
    ranges = source_statistics.parts(source, limit)
    assert sum(length for _, _, length in ranges) == limit
    rows = {(shard, row) for shard, start, n in ranges for row in range(start, start + n)}
    assert len(rows) == limit
    assert all(row < source.shards[shard].length for shard, row in rows)
    assert len({shard for shard, _ in rows}) == min(limit, 3)


def test_a_source_without_good_samples_is_an_error_with_the_reasons(tmp_path):
    write(tmp_path / "x.tfrecord", [example(jpg=b"no picture", txt="a caption", key="a")])
    source = f"tfrecord:{tmp_path}/*.tfrecord"
    with pytest.raises(DataError, match=r"(?s)none of 1 samples.*decode +1 +100"):
        inspect.examine(config(source), tmp_path / "out", limit=0, sheet=4, seconds=0)


def test_the_command_writes_report_and_charts(messy, tmp_path):
    command = [sys.executable, "tools/inspect_data.py", "--config=configs/demo/schedule.py"]
    command += [f"--config.all.input.source={messy.source}", f"--out={tmp_path}"]
    command += ["--limit=12", "--sheet=4", "--seconds=0", "--stage=finetune_1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / inspect.REPORT).read_text())["sources"][0]["looked_at"] == 12
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


def test_a_source_without_captions_is_refused_before_it_is_read(tmp_path):
    photo(0).save(tmp_path / "0.png")
    with pytest.raises(DataError, match="no captions among the features"):
        inspect.examine(config(f"folder:{tmp_path}"), tmp_path / "out", limit=0, sheet=4, seconds=0)
    assert not (tmp_path / "out").exists()


def test_an_empty_source_is_refused(tmp_path):
    with pytest.raises(DataError, match="source is empty"):
        inspect.examine(config(""), tmp_path, limit=0, sheet=4, seconds=0)

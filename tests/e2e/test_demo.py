"""The shipped demo config, shrunk: the whole schedule in processes of its own."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import clipa_jax
from clipa_jax import runs
from clipa_jax.evaluation import record
from clipa_jax.report import absent, find_runs
from tests.helpers.small_demo import ONE_STAGE, SMALL, losses, run

STAGES = ("pretrain", "finetune_1", "finetune_2")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A workdir in which the shrunk schedule has run to its end."""
    workdir = tmp_path_factory.mktemp("demo") / "W"
    done = run(workdir, *SMALL)
    assert done.returncode == 0, done.stderr
    return workdir


def test_the_summary_names_every_stage(finished):
    stages = json.loads((finished / "summary.json").read_text())["stages"]
    assert [stage["name"] for stage in stages] == list(STAGES)
    assert [stage["samples_seen"] for stage in stages] == [96, 96, 96]
    assert [stage["text_tokens"] for stage in stages] == [8, 10, 12]
    tokens = [stage["image_tokens"] for stage in stages]
    assert tokens == sorted(set(tokens))
    for stage in stages:
        for key in ("zero_shot_top1", "zero_shot_top5", "retrieval_i2t_r1", "retrieval_t2i_r1"):
            assert 0 <= stage[key] <= 1
        assert stage["seconds"] > 0
        assert stage["num_params"] > 50_000


def test_the_collector_reads_what_the_trainer_wrote(finished):
    found = find_runs.read([finished])
    assert found.broken == [] and [row.stage for row in found.rows] == list(STAGES)
    last = found.rows[-1]
    assert last.before == STAGES[:-1] and last.costs["total_samples"] == 288
    assert last.costs["total_flops"] == sum(row.costs["flops"] for row in found.rows)
    assert last.first("image_tokens") < last.own["image_tokens"]
    assert len({row.data["train.fingerprint"] for row in found.rows} - {None}) == 1
    assert last.data["zero_shot.split"] == "heldout_pictures"
    assert last.data["zero_shot.count"] == "280" and last.data["zero_shot.data"]
    low, high = last.intervals["zero_shot/top1"]
    assert low <= last.scores["zero_shot/top1"] <= high


def test_every_stage_ends_with_its_evaluation(finished):
    """The same numbers as in the summary, to the bit, with intervals and samples."""
    for stage in json.loads((finished / "summary.json").read_text())["stages"]:
        made = record.read(finished / stage["name"] / "evaluation.json")
        told = {
            f"{name}/{metric}": entry["value"]
            for name, one in made.report["evaluations"].items()
            for metric, entry in one["metrics"].items()
        }
        assert told == stage["scores"]
        top1 = made.report["evaluations"]["zero_shot"]["metrics"]["top1"]
        assert top1["low"] <= top1["value"] <= top1["high"]
        assert len(made.outcomes["zero_shot"]["top1"].ids) == top1["count"] == 280


def test_both_pictures_are_drawn(finished):
    for picture in (finished / "accuracy.png", finished / "finetune_2" / "held_out.png"):
        assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_report_is_written_and_lacks_nothing_but_a_plan(finished):
    text = (finished / "report.html").read_text()
    assert len(text) < 5e6
    for words in ("pretrain", "Most confused pairs", "95 %:", "samples/s", "num_examples"):
        assert words in text
    [run] = runs.read([finished])
    assert [one.what for one in absent.of(run)] == ["a plan to compare with"]
    held = [stage.held_out for stage in run.stages]
    assert {one.num_pictures for one in held} == {280}
    assert len({tuple(shown["row"] for shown in one.shown) for one in held}) == 1
    assert [one.image_NSSC.shape[1] for one in held] == [16, 40, 48]


def test_a_workdir_can_be_moved_and_loaded_from_anywhere(finished, tmp_path, monkeypatch):
    shutil.copytree(finished, tmp_path / "moved")
    monkeypatch.chdir(tmp_path)  # where the config's relative path of the vocabulary is nothing
    model = clipa_jax.load("moved")
    text_BE = model.encode_text(["a dog", "a cat"])
    image_BE = model.encode_image(np.zeros((1, 72, 64, 3), np.uint8))
    assert text_BE.shape == (2, 128)
    np.testing.assert_allclose(np.linalg.norm([*text_BE, *image_BE], axis=1), 1, rtol=1e-5)


def test_a_finished_schedule_is_skipped_and_the_terminal_is_calm(finished):
    before = {path: path.stat().st_mtime_ns for path in finished.glob("*/checkpoints/*/_*")}
    again = run(finished, *SMALL)
    assert again.returncode == 0
    assert again.stderr.count("is finished, nothing to do") == 3
    assert before == {path: path.stat().st_mtime_ns for path in before}
    for noise in ("Warning", "WARNING", "orbax", "oneDNN", "CUDA", "Traceback", "E0000", "I0000"):
        assert noise not in again.stderr + again.stdout


def test_programs_of_several_cpu_devices_are_not_kept(finished):
    """Read back, they wait for each other for ever: `cli._keep_compiled`."""
    assert not (finished / "cache" / "xla").exists()


@pytest.mark.slow
def test_losses_do_not_depend_on_the_number_of_devices(finished, tmp_path):
    done = run(tmp_path, *SMALL, *ONE_STAGE, "--config.all.cpu_devices=8")
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(losses(tmp_path), losses(finished), rtol=1e-4)


@pytest.mark.slow
def test_the_large_recipe_takes_real_steps_in_a_test_size(tmp_path):
    overrides = [
        "--config.input.source=tfds:data/emoji/1.0.0",
        "--config.input.vocab=data/emoji/vocab.txt",
        "--config.input.batch_size=8",
        "--config.total_steps=2",
        "--config.warmup_steps=1",
        "--config.log_steps=1",
        *(f"--config.model.{tower}.depth=2" for tower in ("image", "text")),
        *(f"--config.model.{tower}.width=32" for tower in ("image", "text")),
        *(f"--config.model.{tower}.mlp_dim=64" for tower in ("image", "text")),
        "--config.logs.tensorboard=False",
    ]
    done = run(tmp_path, *overrides, config="configs/model_h/pretrain.py")
    assert done.returncode == 0, done.stderr
    assert len(losses(tmp_path)) == 2
    assert np.isfinite(losses(tmp_path)).all()


def test_bad_input_is_one_sentence(tmp_path):
    done = run(tmp_path / "W", *SMALL, "--config.all.input.vocab=Makefile")
    assert done.returncode != 0
    (line,) = (line for line in done.stderr.splitlines() if line.strip())
    assert line.startswith("error: ")
    assert "Makefile" in line
    assert not (tmp_path / "W").exists()

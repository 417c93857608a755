"""The shipped demo config, shrunk: the whole schedule in processes of its own."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
STAGES = ("pretrain", "finetune_1", "finetune_2")
PICTURES = "tfds:data/emoji/1.0.0"
SMALL = [
    "--config.all.total_steps=6",
    "--config.all.log_steps=1",
    "--config.all.checkpoint_steps=2",
    "--config.all.eval_percent=100",
    "--config.all.input.batch_size=16",
    "--config.all.model.image.width=24",
    "--config.all.model.image.depth=1",
    "--config.all.model.text.width=24",
    "--config.all.logs.tensorboard=False",
    "--config.all.input.split=heldout_pictures",
    *(f"--config.all.evals.{name}.split=heldout_pictures" for name in ("zero_shot", "retrieval")),
    *(f"--config.all.evals.{name}.type=off" for name in ("zero_shot_groups", "zero_shot_pictures")),
    "--config.all.evals.contrastive.type=off",
]


def command(workdir: Path, *overrides: str, config: str = "configs/demo/schedule.py") -> list[str]:
    start = [sys.executable, "-m", "clipa_jax.train", f"--config={config}"]
    return [*start, f"--workdir={workdir}", *overrides]


def run(workdir: Path, *overrides: str, config: str = "configs/demo/schedule.py"):
    return subprocess.run(
        command(workdir, *overrides, config=config),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def losses(workdir: Path, stage: str) -> list[float]:
    lines = (workdir / stage / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [record["loss"] for record in records if "loss" in record]


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
    assert [stage["text_tokens"] for stage in stages] == [8, 12, 16]
    tokens = [stage["image_tokens"] for stage in stages]
    assert tokens == sorted(tokens)
    for stage in stages:
        for key in ("zero_shot_top1", "zero_shot_top5", "retrieval_i2t_r1", "retrieval_t2i_r1"):
            assert 0 <= stage[key] <= 1
        assert stage["seconds"] > 0
        assert stage["num_params"] > 50_000


def test_both_pictures_are_drawn(finished):
    for picture in (finished / "accuracy.png", finished / "finetune_2" / "held_out.png"):
        assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_finished_schedule_is_skipped(finished):
    before = {path: path.stat().st_mtime_ns for path in finished.glob("*/checkpoints/*/_*")}
    again = run(finished, *SMALL)
    assert again.returncode == 0
    assert again.stderr.count("is finished, nothing to do") == 3
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_the_terminal_is_calm(finished):
    again = run(finished, *SMALL)
    for noise in ("Warning", "WARNING", "orbax", "oneDNN", "CUDA", "Traceback", "E0000", "I0000"):
        assert noise not in again.stderr + again.stdout


def test_one_seed_gives_the_same_losses_to_the_last_bit(finished, tmp_path):
    assert run(tmp_path, *SMALL, "--config.stages=('pretrain',)").returncode == 0
    assert losses(tmp_path, "pretrain") == losses(finished, "pretrain")
    other = tmp_path / "other"
    assert (
        run(other, *SMALL, "--config.stages=('pretrain',)", "--config.all.seed=1").returncode == 0
    )
    assert losses(other, "pretrain") != losses(finished, "pretrain")


@pytest.mark.parametrize("devices", [1, 8])
def test_losses_do_not_depend_on_the_number_of_devices(finished, tmp_path, devices):
    only = ["--config.stages=('pretrain',)", f"--config.all.cpu_devices={devices}"]
    assert run(tmp_path, *SMALL, *only).returncode == 0
    np.testing.assert_allclose(
        losses(tmp_path, "pretrain"), losses(finished, "pretrain"), rtol=1e-4
    )


def test_after_ctrl_c_the_same_command_goes_on_to_the_same_weights(tmp_path):
    longer = [*SMALL, "--config.stages=('pretrain',)", "--config.all.total_steps=40"]
    longer += ["--config.all.checkpoint_steps=1000"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run(whole, *longer).returncode == 0
    process = subprocess.Popen(
        command(broken, *longer), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    records = broken / "pretrain" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (records.exists() and records.read_text().count("\n") >= 5):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "run the same command again to go on" in said
    assert not (broken / "pretrain" / "result.json").exists()
    again = run(broken, *longer)
    assert again.returncode == 0
    assert "resumes at step" in again.stderr
    assert losses(broken, "pretrain") == losses(whole, "pretrain")
    assert weights(broken) == weights(whole)


def weights(workdir: Path) -> dict[str, bytes]:
    code = (
        "import sys; from clipa_jax import checkpoint; import hashlib\n"
        "for k, v in sorted(checkpoint.read_params(sys.argv[1]).items()):\n"
        "  print(k, hashlib.sha256(v.tobytes()).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(workdir / "pretrain")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(line.split() for line in done.stdout.splitlines())


def test_the_large_recipe_takes_real_steps_in_a_test_size(tmp_path):
    overrides = [
        f"--config.input.source={PICTURES}",
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
    assert np.isfinite(losses(tmp_path, "pretrain")).all()
    assert len(losses(tmp_path, "pretrain")) == 2


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["--config.pretrain.optim.weigth_decay=0"], "nearest: weight_decay"),
        (["--config.all.input.batch_size=129"], "batch 129 is not divisible by 2"),
        (["--config.all.input.source=tfds:nowhere/1.0.0"], "nowhere/1.0.0"),
        (["--config.all.input.vocab=Makefile"], "Makefile"),
        (["--config.all.model.image.pool=gapp"], "nearest: gap"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, overrides, sentence):
    done = run(tmp_path / "W", *SMALL, *overrides)
    assert done.returncode != 0
    (line,) = (line for line in done.stderr.splitlines() if line.strip())
    assert line.startswith("error: ")
    assert sentence in line
    assert not (tmp_path / "W").exists()


def test_a_workdir_of_another_experiment_is_refused(finished):
    done = run(finished, *SMALL, "--config.all.seed=5")
    assert done.returncode != 0
    assert "holds another experiment: seed is 0 there and 5 here" in done.stderr


def test_a_workdir_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    done = run(tmp_path / "file" / "W", *SMALL)
    assert done.returncode != 0
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr

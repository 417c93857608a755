"""Sweeps with a stub for a trainer: what is run, run again, skipped and reported."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clipa_jax.config import durations, recipes

ROOT = Path(__file__).parents[2]
SWEEPS = ROOT / "tools" / "sweeps"
PATIENCE = 180  # seconds: the machine may be busy
# Writes what it was given into its workdir, and a summary unless it is told to fail.
TRAINER = """#!/usr/bin/env bash
for last; do :; done
workdir=${last#--workdir=}
echo x >>"$workdir/calls"
if [ -e "$workdir/../../fail" ] && [[ $workdir = *lr_2e-3/seed_1 ]]; then
  echo "error: no such data" && exit 3
fi
trap 'echo saved; exit 143' TERM
while [ -e "$workdir/../../wait" ]; do sleep 0.02; done
echo '{"stages": []}' >"$workdir/summary.json"
"""
SBATCH = """#!/usr/bin/env bash
echo "$@" >>"$(dirname "$0")/submitted"
echo "Submitted batch job $(wc -l <"$(dirname "$0")/submitted")"
"""
SQUEUE = """#!/usr/bin/env bash
cat "$(dirname "$0")/queue"
"""


@pytest.fixture
def out(tmp_path):
    """Where a sweep goes; beside it lie the stubs."""
    for name, content in (("train", TRAINER), ("bin/sbatch", SBATCH), ("bin/squeue", SQUEUE)):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(content)
        file.chmod(0o755)
    (tmp_path / "bin" / "queue").touch()
    return tmp_path / "out"


def start(out, *arguments, script="learning_rate.sh", **variables):
    environment = os.environ | {"OUT": str(out), "TRAIN": str(out.parent / "train")}
    environment["PATH"] = f"{out.parent / 'bin'}:{environment['PATH']}"
    return subprocess.Popen(
        [SWEEPS / script, *arguments],
        env=environment | variables,
        cwd=out.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that begins with SIGINT ignored, as in the background, cannot trap it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def run(out, *arguments, **how):
    with start(out, *arguments, **how) as process:
        said, complained = process.communicate(timeout=PATIENCE)
    return process.returncode, said, complained


def calls(out):
    """Point -> how often it was trained."""
    return {
        str(file.parent.relative_to(out)): file.read_text().count("x")
        for file in out.rglob("calls")
    }


def points(rates=("1e-3", "2e-3", "4e-3"), seeds=(0, 1, 2)):
    return [f"lr_{rate}/seed_{seed}" for rate in rates for seed in seeds]


@pytest.mark.parametrize("how", [{"DRY_RUN": "1"}, {}])
def test_a_dry_run_prints_the_commands_and_does_nothing(out, how):
    arguments = ["--config.optim.b2=0.9"] + ([] if how else ["--dry-run"])
    status, said, _ = run(out, *arguments, TRAIN="python -m clipa_jax.train", **how)
    assert status == 0 and not out.exists()
    commands = [shlex.split(line) for line in said.splitlines()]
    assert len(commands) == 9
    assert commands[4] == [
        *("python", "-m", "clipa_jax.train", "--config=configs/demo/pretrain.py"),
        *("--config.optim.lr_per_256=2e-3", "--config.seed=1", "--config.total_examples=64000"),
        *("--config.logs.tensorboard=False", "--config.optim.b2=0.9"),
        f"--workdir={out}/lr_2e-3/seed_1",
    ]


def test_finished_points_are_skipped_unless_their_command_changed(out):
    status, said, _ = run(out)
    assert status == 0 and "[9/9] lr_4e-3/seed_2: finished in" in said
    assert calls(out) == dict.fromkeys(points(), 1)
    assert (out / "points.txt").read_text().splitlines() == points()
    (out / "lr_1e-3" / "seed_0" / "summary.json").unlink()
    status, said, _ = run(out, RATES="1e-3 8e-3")
    assert status == 0 and said.count("finished before") == 2
    assert calls(out) == {
        **dict.fromkeys([*points(), *points(["8e-3"])], 1),
        "lr_1e-3/seed_0": 2,
    }
    assert (out / "points.txt").read_text().splitlines() == [*points(), *points(["8e-3"])]
    # Another command: the trainer decides, and is asked again until it has agreed.
    assert run(out, "--config.optim.b2=0.9", RATES="4e-3", SEEDS="0")[0] == 0
    assert calls(out)["lr_4e-3/seed_0"] == 2
    assert "finished before" in run(out, "--config.optim.b2=0.9", RATES="4e-3", SEEDS="0")[1]


def test_a_refused_command_does_not_count_as_finished(out):
    assert run(out, RATES="2e-3", SEEDS="1")[0] == 0
    (out / "fail").touch()
    for _ in range(2):  # the summary is still there, of what was asked for before
        assert run(out, "--config.optim.b2=0.9", RATES="2e-3", SEEDS="1")[0] == 1
    assert calls(out) == {"lr_2e-3/seed_1": 3}


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_a_failed_point_is_reported_and_the_others_run(out, jobs):
    out.mkdir()
    (out / "fail").touch()
    status, said, complained = run(out, JOBS=jobs)
    assert status == 1
    assert calls(out) == dict.fromkeys(points(), 1)
    log = out / "lr_2e-3" / "seed_1" / "log"
    summary = (
        f"1 of 9 points failed:\n  lr_2e-3/seed_1: status 3, {log} says: error: no such data\n"
    )
    assert complained.endswith(summary) and said.count("finished in") == 8
    (out / "fail").unlink()
    status, said, _ = run(out, JOBS=jobs)
    assert status == 0 and said.count("finished before") == 8
    assert calls(out) == {**dict.fromkeys(points(), 1), "lr_2e-3/seed_1": 2}


def until(happened):
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_jobs_limits_the_running_points_and_a_signal_reaches_all(out):
    out.mkdir()
    (out / "wait").touch()
    with start(out, JOBS="2") as process:
        try:
            until(lambda: len(calls(out)) == 2)
            time.sleep(0.2)
            assert len(calls(out)) == 2
            process.send_signal(signal.SIGINT)
            _, complained = process.communicate(timeout=PATIENCE)
        finally:
            (out / "wait").unlink()  # whatever still waits ends
    assert process.returncode == 130
    assert complained == "stopped; run the same command again to resume\n"
    assert [file.read_text() for file in out.rglob("log")] == ["saved\n"] * 2
    assert run(out)[0] == 0
    assert calls(out) == {**dict.fromkeys(points(), 1), **dict.fromkeys(points()[:2], 2)}


def test_slurm_gets_a_job_for_each_point_not_in_the_queue(out):
    how = {"SLURM": "1", "SUBMIT": "--gpus=1 --time=1:00:00", "RATES": "1e-3"}
    status, said, _ = run(out, **how)
    assert status == 0 and "[3/3] lr_1e-3/seed_2: submitted as job 3" in said
    submitted = (out.parent / "bin" / "submitted").read_text().splitlines()
    assert len(submitted) == 3 and "--time=1:00:00" in submitted[0]
    assert submitted[0].endswith(f"--workdir={out}/lr_1e-3/seed_0")
    (out / "lr_1e-3" / "seed_0" / "summary.json").touch()  # one is finished, two are queued
    (out.parent / "bin" / "queue").write_text("2\n")
    _, said, _ = run(out, **how)
    assert said.count("in the queue as job") == 2 and said.count("finished before") == 1
    (out.parent / "bin" / "queue").write_text("")
    _, said, _ = run(out, **how)
    assert said.count("submitted as job") == 2
    (out.parent / "bin" / "sbatch").write_text("#!/bin/sh\necho no partition >&2; exit 1\n")
    status, _, complained = run(out, **how)
    assert status == 1 and "lr_1e-3/seed_1: not submitted: no partition" in complained


def test_unknown_arguments_of_a_sweep_are_refused(out):
    status, _, complained = run(out, "--dryrun")
    assert status == 2 and "unknown argument '--dryrun'; legal: --dry-run" in complained
    status, _, complained = run(out, script="inverse_scaling.sh", GRID="tiny")
    assert status == 2 and "unknown GRID 'tiny'; legal: full, small" in complained


def test_two_points_with_the_same_name_are_refused(out):
    script = out.parent / "sweep.sh"
    script.write_text(
        f'cd {ROOT} && . tools/sweeps/points.sh\nsweep configs/demo/pretrain.py {out} "$@"\n'
        "point a --config.seed=0\npoint a --config.seed=0\npoint a --config.seed=1\nrun_points\n"
    )
    done = subprocess.run(["bash", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: two points are called a; its name must hold all that varies\n"


def law(**variables):
    """Point -> (stage, key) -> value of the inverse scaling grid."""
    environment = os.environ | {"OUT": "W", "TRAIN": "train"} | variables
    command = [SWEEPS / "inverse_scaling.sh", "--dry-run"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = {}
    for line in done.stdout.splitlines():
        keys = dict(word.split("=", 1) for word in shlex.split(line)[1:])
        found[keys.pop("--workdir").removeprefix("W/")] = keys
    return found


def test_the_grid_of_the_scaling_law():
    grid = law()
    assert len(grid) == 3 * 3 * (1 + 4 * 4 + 3 * 5)
    assert {keys["--config"] for keys in grid.values()} == {"configs/scaling/schedule.py"}
    tokens = {}
    for name, keys in grid.items():
        kind, reduction, size, seed = name.split("/")
        assert keys["--config.all.model.size"] == f"{size}/8"
        assert f"seed_{keys['--config.all.seed']}" == seed
        side, count = kind.split("_")
        if side == "image":
            res = int(keys.get("--config.pretrain.input.res", 64))
            kept = (res // 8) ** 2 * (1 - float(keys.get("--config.pretrain.mask.ratio", 0)))
            assert keys.get("--config.pretrain.mask.name", "resize") == reduction
            tokens.setdefault((reduction, int(count)), kept)
        else:
            assert keys["--config.pretrain.input.text_len"] == count
            assert keys["--config.pretrain.input.reduction"] == reduction
            assert keys["--config.pretrain.input.res"] == "32"
    assert tokens["resize", 32] == 36 and tokens["random", 32] == 32
    assert all(kept == count for (_, count), kept in tokens.items() if count != 32)
    small = law(GRID="small")
    assert list(grid)[: len(small)] == list(small)
    assert list(small)[:3] == [
        f"image_64/resize/{size}/seed_0" for size in ("nano", "micro", "mini")
    ]
    assert len(law(GRID="small", SEEDS="5", SIZES="mini")) == len(small) / 9


def test_every_point_trains_on_equal_samples_and_ends_at_full_length():
    schedule = recipes.load("scaling/schedule")
    schedule.pretrain.total_examples = 6400
    pretrain, finetune = schedule.pretrain, schedule.finetune
    assert (pretrain.total_examples, finetune.after) == (6400, "pretrain")
    assert (finetune.input.res, finetune.input.text_len, finetune.mask.ratio) == (64, 16, 0)
    steps = durations.resolve(pretrain, batch_size=64, num_examples=None)
    assert steps.eval_steps == steps.checkpoint_steps == steps.total_steps == 100


def test_the_law_on_icons_takes_the_better_rate_of_each_cell(out):
    trainer = out.parent / "train"
    trainer.write_text(
        """#!/usr/bin/env bash
for last; do :; done
workdir=${last#--workdir=} loss=2.5
[[ $* != *lr_per_256=4e-3* || $* = *res=16* ]] || loss=2.25
printf '{"stages": [{"scores": {"contrastive/loss": %s}}]}' $loss >"$workdir/summary.json"
"""
    )
    python = out.parent / "python"
    python.write_text(f'#!/usr/bin/env bash\n[ "$1" != -c ] || exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    how = {"script": "inverse_scaling_icons.sh", "SIZES": "mini", "PYTHON": str(python)}
    status, _, complained = run(out, **how)
    assert (status, complained) == (0, "")
    commands = {
        str(file.parent.relative_to(out)): file.read_text() for file in out.rglob("command")
    }
    assert sum(name.startswith("trials/mini/") for name in commands) == 6
    for tokens, rate in ((64, "4e-3"), (16, "4e-3"), (4, "2e-3")):
        for seed in (0, 1, 2):
            assert f"lr_per_256={rate} " in commands[f"points/mini/image_{tokens}/seed_{seed}"]

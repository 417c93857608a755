"""The shipped demo config, shrunk, in processes of its own; what the tests here share."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from clipa_jax.training import checkpoint

ROOT = Path(__file__).parents[2]
SCHEDULE = "configs/demo/schedule.py"
# The demo's batches and towers, made small.
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
    *(f"--config.all.evals.{name}.type=off" for name in ("zero_shot_groups", "contrastive")),
    "--config.all.evals.zero_shot_pictures.type=off",
]
# Programs are compiled in half the time into slower code.
ENVIRONMENT = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
# One stage without evaluation: what tests of the training itself need.
ONE_STAGE = ["--config.stages=('pretrain',)", "--config.all.eval_percent=0"]


def command(workdir: Path, *overrides: str, config: str = SCHEDULE) -> list[str]:
    """The arguments of Python that train `config` in `workdir`; a later override counts."""
    keys = {override.partition("=")[0]: override for override in overrides}
    return ["-m", "clipa_jax.train", f"--config={config}", f"--workdir={workdir}", *keys.values()]


def run(workdir: Path, *overrides: str, config: str = SCHEDULE) -> subprocess.CompletedProcess[str]:
    """Trains to the end."""
    return subprocess.run(
        [sys.executable, *command(workdir, *overrides, config=config)],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def start(workdir: Path, *overrides: str) -> subprocess.Popen[str]:
    """Begins to train."""
    return subprocess.Popen(
        [sys.executable, *command(workdir, *overrides)],
        cwd=ROOT,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait(happened: Callable[[], bool], *processes: subprocess.Popen[str]) -> None:
    """Waits until something happened while the processes live."""
    deadline = time.monotonic() + 900
    while not happened():
        assert time.monotonic() < deadline
        for process in processes:
            assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)


def records(workdir: Path, stage: str = "pretrain") -> list[dict[str, float]]:
    """The lines of metrics.jsonl so far; a torn last one is left out."""
    file = workdir / stage / "metrics.jsonl"
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    return [json.loads(line) for line in lines]


def losses(workdir: Path, stage: str = "pretrain") -> list[float]:
    """The loss of each step."""
    return [record["loss"] for record in records(workdir, stage) if "loss" in record]


def weights(workdir: Path, stage: str = "pretrain") -> dict[str, str]:
    """A hash of each weight of the last checkpoint."""
    params = checkpoint.read_params(str(workdir / stage))
    return {name: hashlib.sha256(leaf.tobytes()).hexdigest() for name, leaf in params.items()}

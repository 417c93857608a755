"""The comparison that is prepared for a GPU, as far as a CPU can show it."""

import functools
import json
import os
import subprocess
import sys
from operator import getitem
from pathlib import Path

import pytest

from clipa_jax.benchmark.peers import PEERS
from clipa_jax.config import recipes

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tools" / "gpu" / "compare_step.sh"
STUBS = {
    "timeout": 'echo "$1" >>"$LOG/seconds"; shift; exec "$@"',
    "python": 'printf "%s\\n" "$@" >"$LOG/$(wc -l <"$LOG/seconds")"; [[ $* != *=cudnn* ]]',
}


def test_the_comparison_takes_at_most_eight_minutes_and_reports_a_failure(tmp_path):
    for name, code in STUBS.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{code}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["bash", SCRIPT, tmp_path / "out", "--config.input.res=70"],
        env=os.environ | {
            "PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(tmp_path), "BATCH": "256",
        },
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "cudnn failed\n"), done.stderr
    assert sum(int(line) for line in (tmp_path / "seconds").read_text().split()) <= 480
    config = recipes.load("model_h/pretrain")
    for run, attention, peers in ((1, "cudnn", list(PEERS)), (2, "xla", ["open_clip"])):
        words = (tmp_path / str(run)).read_text().splitlines()
        given = dict(word.removeprefix("--").split("=", 1) for word in words[2:])
        assert words[:2] == ["tools/benchmark.py", "step"]
        assert given["config.model.attention"] == attention
        assert given["config.input.batch_size"] == "256" and given["config.input.res"] == "70"
        assert len(given) == len(words) - 2  # a flag given twice is an error
        assert given["peer"].split(",") == peers
        for key in given:
            if key.startswith("config."):
                functools.reduce(getitem, key.split(".")[1:], config)  # or KeyError


@pytest.mark.slow
def test_the_comparison_runs_on_a_cpu(tmp_path):
    small = ("model.image.depth=1", "model.text.depth=1", "input.res=28")
    done = subprocess.run(
        ["bash", SCRIPT, tmp_path / "out", *(f"--config.{key}" for key in small),
         "--config.model.dtype=float32", "--warmup=1", "--matrix=64"],
        env=os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "ATTENTION": "xla",
            "JAX_PLATFORMS": "cpu", "BATCH": "2", "STEPS": "1",
        },
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out" / "xla.json").read_text())
    assert result["batch"] == 2 and set(result["peers"]) == set(PEERS)

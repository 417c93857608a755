"""tools/interpolate.py as its users run it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clipa_jax.weights import open_weights
from tests.helpers import small_stage

TOOL = str(Path(__file__).parents[2] / "tools/interpolate.py")
EVAL = """
from tests.helpers import small_stage
def get_config():
    return small_stage.evaluation({"zero_shot": small_stage.EVALS["zero_shot"]})
"""


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    root = tmp_path_factory.mktemp("W")
    for seed, name in enumerate(("start", "tuned")):
        small_stage.stage(root, small_stage.config(name), seed=seed)
    return [str(root / "start"), str(root / "tuned")]


def run(*arguments):
    command = [sys.executable, TOOL, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_sweep_evaluates_each_alpha_and_draws_the_curve(checkpoints, tmp_path):
    (tmp_path / "eval.py").write_text(EVAL)
    out = tmp_path / "sweep"
    config = f"--config={tmp_path / 'eval.py'}"
    done = run(*checkpoints, "--alpha=0,0.5,1", f"--out={out}", config)
    assert done.returncode == 0, done.stderr
    curve = json.loads((out / "curve.json").read_text())
    assert curve["alpha"] == [0, 0.5, 1] and len(curve["zero_shot/top1"]) == 3
    reports = [json.loads((out / f"evaluation_{n}.json").read_text()) for n in range(3)]
    assert len({report["weights"] for report in reports}) == 3
    scores = [report["evaluations"]["zero_shot"]["metrics"]["top1"]["value"] for report in reports]
    assert curve["zero_shot/top1"] == scores
    assert (out / "curve.png").stat().st_size > 5_000


def test_one_alpha_is_written_with_its_config(checkpoints, tmp_path):
    out = tmp_path / "mixed.npz"
    done = run(*checkpoints, "--alpha=0.5", f"--out={out}")
    assert done.returncode == 0, done.stderr
    mixed, start, tuned = (open_weights(path) for path in (str(out), *checkpoints))
    assert mixed.config.name == "tuned"
    t = [weights.read()["txt/pos_embedding"] for weights in (mixed, start, tuned)]
    np.testing.assert_allclose(t[0], (t[1] + t[2]) / 2, atol=1e-6)
    again = run(*checkpoints, "--alpha=0.5", f"--out={out}")
    assert again.returncode == 1 and "exists already" in again.stderr

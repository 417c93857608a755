"""tools/interpolate.py as its users run it."""

import json

import numpy as np
import pytest

from clipa_jax.weights import open_weights
from tests.helpers import pages, small_stage

EVAL = """
from tests.helpers import small_stage
def get_config():
    return small_stage.evaluation({"zero_shot": small_stage.EVALS["zero_shot"]})
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """(folder, two checkpoints, standard error) of a sweep, and an archive written twice."""
    root = tmp_path_factory.mktemp("W")
    for seed, name in enumerate(("start", "tuned")):
        small_stage.stage(root, small_stage.config(name), seed=seed)
    (root / "eval.py").write_text(EVAL)
    checkpoints = [str(root / "start"), str(root / "tuned")]
    tool = ["tools/interpolate.py", *checkpoints]
    write = [*tool, "--alpha=0.5", f"--out={root / 'mixed.npz'}"]
    config, out = f"--config={root / 'eval.py'}", f"--out={root / 'sweep'}"
    sweep = [*tool, "--alpha=0,0.5,1", out, config]
    return root, checkpoints, pages.run([sweep, write, write], pages.ROOT, status=1)


def test_a_sweep_evaluates_each_alpha_and_draws_the_curve(done):
    out = done[0] / "sweep"
    curve = json.loads((out / "curve.json").read_text())
    assert curve["alpha"] == [0, 0.5, 1] and len(curve["zero_shot/top1"]) == 3
    reports = [json.loads((out / f"evaluation_{n}.json").read_text()) for n in range(3)]
    assert len({report["weights"] for report in reports}) == 3
    scores = [report["evaluations"]["zero_shot"]["metrics"]["top1"]["value"] for report in reports]
    assert curve["zero_shot/top1"] == scores
    assert (out / "curve.png").stat().st_size > 5_000


def test_one_alpha_is_written_with_its_config_and_never_over_another_file(done):
    root, checkpoints, errors = done
    mixed, start, tuned = map(open_weights, (str(root / "mixed.npz"), *checkpoints))
    assert mixed.config.name == "tuned"
    t = [weights.read()["txt/pos_embedding"] for weights in (mixed, start, tuned)]
    np.testing.assert_allclose(t[0], (t[1] + t[2]) / 2, atol=1e-6)
    assert "mixed.npz exists already" in errors.splitlines()[-1]

"""The arithmetic of the step benchmark, and one run of it."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from clipa_jax import sharding
from clipa_jax.benchmark import device, peers, step
from clipa_jax.config import recipes
from clipa_jax.config.settings import Settings
from clipa_jax.errors import ConfigError, UserError
from clipa_jax.planning import workload
from clipa_jax.training import program
from tests.helpers import tiny

ROOT = Path(__file__).parents[2]


def result(**changes) -> step.Result:
    values = {
        "stage": "pretrain of H/14",
        "devices": "8 x H200",
        "batch": 4_096,
        "dtype": "bfloat16",
        "steps": 20,
        "step_seconds": 0.5,
        "fastest": 0.4,
        "slowest": 0.75,
        "model_flops": 1e15,
        "matrix_rate": 4e15,
        "peak_memory": 3 * 2**30,
        "memory_source": "measured",
        "compile_seconds": 12.0,
    }
    return step.Result(**values | changes)


def test_rate_and_utilization_follow_from_the_median():
    got = result()
    assert got.samples_per_second == 8_192
    assert got.mfu == 0.5
    assert got.as_dict()["mfu"] == 0.5
    for number in ("8,192.0", "500.0 ms", "400.0 ms", "750.0 ms", "3.00 GiB"):
        assert number in got.text()


def test_warm_up_steps_are_not_timed():
    calls = []
    seconds = device.timed(lambda: calls.append(0) or jnp.zeros(()), steps=3, warmup=2)
    assert len(calls) == 5 and len(seconds) == 3 and min(seconds) > 0


def test_the_matrix_rate_is_of_all_devices_together(monkeypatch):
    """With a clock that returns a second for each call."""
    monkeypatch.setattr(device, "timed", lambda run, steps, warmup: [1.0] * steps)
    assert device.matrix_rate(tiny.mesh(8), "float32", side=16) == 8 * 4 * 2 * 16**3
    assert device.matrix_rate(tiny.mesh(1), "bfloat16", side=16) == 4 * 2 * 16**3


def test_a_batch_is_noise_of_the_right_kind():
    c = Settings(tiny.config())
    work = workload.read(tiny.config())
    training = program.build(
        c, c.mesh.call(sharding.make_mesh), work.durations, program.batch_spec(c.input)
    )
    batch = device.random_batch(training)
    assert {name: (x.shape, x.dtype) for name, x in batch.items()} == {
        name: (spec.shape, spec.dtype) for name, spec in training.spec.batch.items()
    }
    assert batch["image"].max() > 200 and batch["image"].min() < 50
    assert batch["tokens"].min() >= 0 and batch["tokens"].max() < 32


def test_a_peer_has_the_same_parameters_and_takes_turns():
    """open_clip's model has learned positions of the images, class token included."""
    open_clip_step = pytest.importorskip("clipa_jax.benchmark.open_clip_step")
    c = tiny.config(model__image__pool="tok", mask__ratio=0.5)
    c.input.preprocess_eval = "decode|resize({res})"
    work = workload.read(c)
    peer = open_clip_step.network(work)
    assert sum(p.numel() for p in peer.parameters()) == work.num_params + 17 * 16
    others = {"open_clip": peers.start("open_clip", work.config)}
    got = step.measure(work, steps=2, warmup=1, matrix=64, others=others)
    result = got.peers["open_clip"]
    assert result.lowest <= result.ratio <= result.highest
    assert "times as fast" in got.text() and got.as_dict()["peers"]["open_clip"]["ratio"]


def test_an_unknown_peer_and_a_model_that_it_does_not_have_are_refused():
    with pytest.raises(ConfigError, match="unknown --peer 'clip'; nearest: open_clip"):
        peers.start("clip", tiny.config())
    pytest.importorskip("open_clip")
    with pytest.raises(UserError, match="gap"):
        peers.start("open_clip", tiny.config(model__text__pool="gap"))


def test_the_ratio_is_of_steps_side_by_side():
    peer = step.Peer.of(theirs=[4.0, 9.0, 6.0], ours=[2.0, 3.0, 4.0])
    assert peer == step.Peer(step_seconds=6.0, ratio=2.0, lowest=1.5, highest=3.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "got ''"), (["stepp"], "step or data, got 'stepp'")],
)
def test_a_missing_or_unknown_subject_is_refused(arguments, message):
    done = subprocess.run(
        [sys.executable, "tools/benchmark.py", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and message in done.stderr


def test_a_small_model_is_measured_without_tensorflow(tmp_path):
    """In a process of its own, where importing TensorFlow fails."""
    code = """
import runpy, sys
sys.path.insert(0, "tools")
for missing in ("tensorflow", "tensorflow_text", "tensorflow_datasets", "clu"):
    sys.modules[missing] = None
runpy.run_path("tools/benchmark.py", run_name="__main__")
"""
    out = tmp_path / "result.json"
    overrides = {
        "model.size": "S/4", "input.res": 8, "input.text_len": 4, "input.batch_size": 8,
        "model.image.depth": 1, "model.text.depth": 1, "model.image.width": 12,
        "model.text.width": 12, "total_steps": 4, "warmup_steps": 1,
    }  # fmt: skip
    done = subprocess.run(
        [
            sys.executable, "-c", code, "step", "--config=configs/model_s/pretrain.py",
            *[f"--config.{key}={value}" for key, value in overrides.items()],
            "--steps=2", "--warmup=1", "--matrix=64", f"--json={out}",
        ],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "samples/s" in done.stdout
    got = json.loads(out.read_text())
    config = recipes.load("model_s/pretrain")
    config.update_from_flattened_dict(overrides | {"total_examples": None, "warmup_examples": None})
    assert got["model_flops"] == workload.read(config).step_flops
    assert got["batch"] == 8 and got["devices"] == f"1 x {jax.devices()[0].device_kind}"
    assert got["fastest"] <= got["step_seconds"] <= got["slowest"]
    assert 0 < got["mfu"] < 10 and got["peak_memory"] > 0

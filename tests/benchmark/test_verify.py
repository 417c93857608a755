"""The checks before a long run find planted faults; the sound stage passes all of them."""

import dataclasses
import math
import time
from types import SimpleNamespace

import pytest

from clipa_jax import sharding
from clipa_jax.benchmark import device, verify
from clipa_jax.config import recipes
from clipa_jax.errors import UserError
from clipa_jax.planning import capacity, chips
from clipa_jax.runtime import distributed
from tests.helpers import tiny

CHIP = chips.Chip("toy", peak=1e30, memory=1e12, bandwidth=1e12, interconnect=1e12)


def small():
    config = recipes.load("demo/pretrain")
    config.model.size = "nano/16"
    for tower in (config.model.image, config.model.text):
        tower.depth = 1
    config.input.batch_size = 64
    config.cpu_devices = None
    return config


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify.cli, "start_jax", lambda config: None)
        one = tiny.mesh()
        patch.setattr(sharding, "make_mesh", lambda replica, fsdp, tensor: one)
        return verify.setup(small(), str(tmp_path_factory.mktemp("workdir")))


@pytest.fixture
def others(monkeypatch):
    """Makes process 1 say something else than this one."""

    def say(value):
        monkeypatch.setattr(distributed, "from_all", lambda mine: [mine, value(mine)])

    return say


def test_a_sound_stage_passes_all_checks_and_leaves_nothing(given, monkeypatch):
    monkeypatch.setattr(verify, "BATCHES", 2)
    monkeypatch.setattr(device, "matrix_rate", lambda mesh, dtype: 1e10)
    rows = verify.verify(given)
    results = {row.check: row.result for row in rows}
    slow = results.pop("input rate")  # of this machine, beside other tests
    assert set(results.values()) == {"passed"}, verify.text(rows)
    assert slow in ("passed", "failed")
    assert not given.run.folder.exists()


def test_a_process_with_another_config_is_named(given, others):
    others(lambda mine: "another value")
    with pytest.raises(UserError, match="process 1 has another config"):
        verify.processes(given)


def test_a_device_far_behind_the_others_is_named(given, others, monkeypatch):
    monkeypatch.setattr(device, "matrix_rate", lambda mesh, dtype: 1e12)
    others(lambda mine: mine / 2)
    with pytest.raises(UserError, match="process 1 has .*: replace it"):
        verify.devices(given)


def test_a_device_far_below_its_peak_is_reported(given, monkeypatch):
    monkeypatch.setattr(device, "matrix_rate", lambda mesh, dtype: 1e12)
    monkeypatch.setattr(chips, "of_kind", lambda kind: CHIP)
    run = dataclasses.replace(given.run, config=small())
    run.config.model.dtype = "bfloat16"
    with pytest.raises(UserError, match="of the peak"):
        verify.devices(dataclasses.replace(given, run=run))


def test_too_little_memory_is_reported(given, monkeypatch):
    monkeypatch.setattr(capacity, "device_memory", lambda device: 1e5)
    with pytest.raises(UserError, match="needs about"):
        verify.memory_of_the_plan(given)


def test_an_attention_that_differs_is_found(given, monkeypatch):
    """`training.attention` compares them, see its tests; here each one that may be used is."""
    monkeypatch.setitem(verify.IMPLEMENTATIONS, "cpu", ("wrong",))

    def agreement(spec, mesh, params, image_tokens):
        name = spec.model.img.config.attention
        if name == "wrong":
            raise UserError(f"model.attention={name} differs from xla")
        return ""

    monkeypatch.setattr(verify.attention, "agreement", agreement)
    with pytest.raises(UserError, match="attention=wrong differs from xla"):
        verify.attention_implementations(given)


def test_a_workdir_that_cannot_be_written_is_reported(given, tmp_path):
    (tmp_path / "file").write_text("")
    run = dataclasses.replace(given.run, folder=tmp_path / "file" / "verify")
    row = verify._row(verify.checkpoint, dataclasses.replace(given, run=run))
    assert row.result == "failed"


def test_a_checkpoint_that_comes_back_changed_is_found(given, monkeypatch):
    real = verify.fingerprint.of
    monkeypatch.setattr(
        verify, "fingerprint", SimpleNamespace(of=lambda tree: [real(tree), time.monotonic()])
    )
    with pytest.raises(UserError, match="other numbers were read"):
        verify.checkpoint(given)


def test_a_step_far_slower_than_planned_is_reported(given, monkeypatch):
    monkeypatch.setattr(chips, "of_kind", lambda kind: CHIP)
    with pytest.raises(UserError, match="planned"):
        verify.step(given)


def test_a_loss_that_is_not_finite_is_reported(given, monkeypatch):
    monkeypatch.setattr(device, "timed", lambda once, steps, warmup: [once() and 1.0])
    monkeypatch.setattr(verify.math, "isfinite", lambda loss: not math.isnan(loss) and loss < 0)
    with pytest.raises(UserError, match="losses of random batches"):
        verify.step(given)


def test_an_input_slower_than_the_steps_is_reported(given, monkeypatch):
    monkeypatch.setattr(verify, "BATCHES", 2)
    fast = dataclasses.replace(given, step_seconds=1e-9)
    with pytest.raises(UserError, match="samples/s; the steps take"):
        verify.input_rate(fast)


@pytest.mark.parametrize(
    ("place", "zone", "near"),
    [
        ("US-CENTRAL1", "us-central1-a", True),
        ("US", "us-west4-a", True),
        ("EU", "europe-west4-b", True),
        ("EU", "us-west4-a", False),
        ("US-EAST1", "us-west4-a", False),
    ],
)
def test_a_bucket_in_another_region_is_a_warning(given, monkeypatch, place, zone, near):
    monkeypatch.setattr(verify, "location", lambda bucket: place)
    monkeypatch.setattr(verify, "_zone", lambda: zone)
    row = verify._row(verify.region, dataclasses.replace(given, root="gs://mine/W"))
    assert row.result == ("passed" if near else "warning")
    assert near or "gs://mine in" in row.detail

"""Loss spikes: which losses are some, and runs that go back before them."""

import dataclasses
import hashlib
import json
import math

import numpy as np
import pytest

from clipa_jax import train
from clipa_jax.errors import ConfigError, UserError
from clipa_jax.runtime.interrupt import Interrupt
from clipa_jax.training import program, spikes, stage, workdir
from tests.helpers import golden, small_demo, small_stage

BATCH = 16
PREPROCESS = (
    "decode|resize({res})|choose_caption"
    "|tokenize({text_len}, vocab={vocab!r}, reduction={reduction!r})"
)


def places(begin, end):
    return {"a.tar": list(range(begin, end))}


def watch(folder, **given):
    return spikes.Spikes(folder, places, BATCH, **given)


def steps(watched, losses, first=1):
    for step, loss in enumerate(losses, first):
        watched.add(step, loss, step * BATCH)


def noise(size, level=2.0, scale=0.05):
    return (level + scale * np.random.default_rng(0).normal(size=size)).tolist()


def test_a_loss_far_above_the_median_is_logged_with_its_samples(tmp_path, caplog):
    steps(watch(tmp_path), [*noise(100), 2.7, 2.9, *noise(20), 9.0])
    first, second = spikes.read(tmp_path)  # 2.9 belongs to the first
    assert (first["step"], first["loss"], first["samples"]) == (101, 2.7, [1600, 1616])
    assert first["files"] == {"a.tar": list(range(1600, 1616))} and first["left_out"] is None
    assert first["median"] == pytest.approx(2.0, abs=0.02)
    assert first["margin"] == pytest.approx(0.5, rel=0.25)
    assert second["step"] == 123
    assert "at step 101" in caplog.text and "1,600 to 1,616" in caplog.text


@pytest.mark.parametrize(
    "losses",
    [
        [*noise(spikes.FEWEST - 1), 9.0],  # too few to judge by
        [*noise(100), math.nan, math.inf],  # `on_nonfinite` is for these
        [*noise(100), 0.1],  # below
        [*noise(100, scale=0.0), 2.19],  # less than 10 % above a loss without noise
        [8 / (1 + 0.1 * step) for step in range(400)],  # training
        noise(1_000, scale=0.3),
    ],
)
def test_other_losses_are_no_spikes(tmp_path, losses):
    steps(watch(tmp_path), losses)
    assert spikes.read(tmp_path) == []


def test_a_loss_that_stays_high_becomes_the_usual_one(tmp_path):
    steps(watch(tmp_path), [*noise(300), *noise(200, 4.0), 9.0])
    assert [spike["step"] for spike in spikes.read(tmp_path)] == [301, 501]


def test_losses_saved_in_a_checkpoint_are_gone_on_with(tmp_path):
    losses = [*noise(100), 9.0]
    before = watch(tmp_path)
    steps(before, losses[:80])
    steps(watch(tmp_path, saved=before.saved(80 * BATCH)), losses[80:], first=81)
    assert [spike["step"] for spike in spikes.read(tmp_path)] == [101]


def test_rollbacks_are_counted_and_one_spike_more_stops_the_run(tmp_path):
    saved = watch(tmp_path, max_rollbacks=1)
    steps(saved, noise(90))
    losses = saved.saved(90 * BATCH)
    with pytest.raises(spikes.Rollback):
        saved.add(92, 9.0, 92 * BATCH)
    again = watch(tmp_path, saved=losses, samples=90 * BATCH, max_rollbacks=1)
    assert again.left_out == [(90 * BATCH, 92 * BATCH)]
    with pytest.raises(UserError, match="at step 91 is a spike.*max_rollbacks=1 rollbacks"):
        again.add(91, 9.0, 93 * BATCH)


def config(**overrides):
    return small_stage.config(
        total_steps=16,
        checkpoint_percent=25.0,
        eval_percent=0,
        log_steps=1,
        logs__tensorboard=False,
        compilation_cache="none",
        input__source="tfds:data/emoji/1.0.0",
        input__split="heldout_pictures",
        input__preprocess=PREPROCESS,
        **overrides,
    )


def digest(batch):
    return hashlib.sha256(np.asarray(batch["image"]).tobytes()).hexdigest()


class Interrupted(UserError):
    """Ends a run; saves that have begun are completed, since this process goes on."""


@pytest.fixture(scope="module")
def prepared():
    """The stage, its compiled step, and the digest of its tenth batch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(golden.ROOT)
        run = stage.prepare(config(), golden.ROOT / "no", {})
        batches = run.data.start()
        tenth = [digest(next(batches)[0]) for _ in range(10)][-1]
        return run, run.program.compile(), tenth


@pytest.fixture
def training(prepared, monkeypatch):
    """(a function that trains in a folder, digests of the batches so far, numbers of the batches
    at which it ends); the loss of the tenth batch is high."""
    run, update, tenth = prepared
    digests, ends = [], set()
    monkeypatch.setattr(spikes, "FEWEST", 4)
    monkeypatch.setattr(train.attention, "compare", lambda *arguments: None)
    monkeypatch.setattr(train.end_of_run, "end_of_stage", lambda *arguments: None)

    def spoil(state, batch):
        digests.append(digest(batch))
        if len(digests) in ends:
            raise Interrupted
        state, values = update(state, batch)
        return state, values | {"loss": values["loss"] + 9.0 * (digests[-1] == tenth)}

    compiled = []
    monkeypatch.setattr(program.Program, "compile", lambda self: compiled.append(1) or spoil)

    def trained(folder, max_rollbacks):
        own = dataclasses.replace(run, folder=folder, max_rollbacks=max_rollbacks)
        compiled.clear()
        assert train.train(own, Interrupt())
        assert len(compiled) == 1  # also with a rollback
        position = json.loads((folder / "checkpoints/16/position/metadata").read_text())
        return position, small_demo.losses(folder.parent, folder.name)

    return trained, digests, ends


def test_a_rollback_leaves_data_out_and_a_kill_behind_it_changes_no_bit(training, tmp_path):
    trained, digests, ends = training
    position, losses = trained(tmp_path / "whole", 3)
    # Steps 1 to 10, and 11, which runs when the loss of 10 is read; then 9 to 16 with other data.
    assert len(digests) == 11 + 8 and digests[8:10] != digests[11:13]
    assert digests[10] == digests[11]
    assert len(losses) == 16 and max(losses) < 9
    assert position["data"]["samples"] == 18 * BATCH
    [spike] = spikes.read(tmp_path / "whole")
    assert (spike["step"], spike["left_out"]) == (10, [8 * BATCH, 10 * BATCH])
    assert workdir.result(tmp_path / "whole")["rollbacks"] == 1

    digests.clear()
    ends.update({13, 19})  # in the second step after the rollback, and after the next checkpoint
    for _ in range(2):
        with pytest.raises(Interrupted):
            trained(tmp_path / "killed", 3)
    resumed, again = trained(tmp_path / "killed", 3)
    assert again == losses
    assert resumed["fingerprints"] == position["fingerprints"]
    assert resumed["data"] == position["data"]
    assert spikes.read(tmp_path / "killed") == [spike]


def test_without_rollback_a_spike_is_recorded_and_the_run_goes_on(training, tmp_path):
    position, losses = training[0](tmp_path / "small", None)
    assert losses[9] > 9 and position["data"]["samples"] == 16 * BATCH
    assert [spike["step"] for spike in spikes.read(tmp_path / "small")] == [10]
    assert workdir.result(tmp_path / "small")["rollbacks"] == 0


def test_an_unknown_reaction_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(golden.ROOT)
    with pytest.raises(ConfigError, match="on_spike"):
        stage.prepare(config(on_spike="rolback"), tmp_path, {})

"""Checkpoints that were damaged: the one before them is taken, or an error names them."""

import shutil

import pytest

from clipa_jax.errors import CheckpointError
from clipa_jax.training import checkpoint
from tests.helpers.checkpoints import (
    POSITION,
    assert_same,
    cut,
    damage,
    restore,
    save,
    spec,
    state,
    steps_in,
    turn_a_bit,
)

# Orbax's reader threads complain when a read of a damaged file is given up.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, caplog):
    before = state(spec(), step=5, seed=1)
    save(tmp_path, before, state(spec(), step=10, seed=2))
    damage(tmp_path, 10)
    start = restore(tmp_path, spec())
    assert_same(start.state, before)
    assert start.position["step"] == 5
    said = [r.getMessage() for r in caplog.records if "cannot be read" in r.getMessage()]
    assert len(said) == 1
    assert f"the checkpoint of step 10 in {tmp_path / 'checkpoints'} cannot be read" in said[0]


@pytest.mark.parametrize(
    "harm",
    [
        cut,
        turn_a_bit,
        lambda step: shutil.rmtree(step / "params"),
        lambda step: shutil.rmtree(step / "train"),
        lambda step: shutil.rmtree(step / "position"),
        lambda step: (step / "params" / "_METADATA").unlink(),
        lambda step: (step / "train" / "_METADATA").write_text('{"tree_meta'),
        lambda step: (step / "position" / "metadata").write_text('{"data": {"ep'),
        lambda step: (step / "params" / "manifest.ocdbt").write_bytes(b"\x93garbage" * 20),
    ],
    ids=["cut", "bit", "params", "train", "position", "metadata", "torn", "json", "garbage"],
)
def test_any_damage_falls_back_to_the_checkpoint_before(tmp_path, harm, caplog):
    wide = spec(width=64)
    before = state(wide, step=5)
    save(tmp_path, before, state(wide, step=10, seed=1))
    harm(tmp_path / "checkpoints" / "10")
    start = restore(tmp_path, wide)
    assert_same(start.state, before)
    assert start.position["step"] == 5
    said = [record.getMessage() for record in caplog.records if "step 10" in record.getMessage()]
    assert len(said) == 1 and "cannot be read, trying the one before it" in said[0]


def test_a_damaged_checkpoint_is_overwritten_at_the_same_step(tmp_path):
    save(tmp_path, state(spec(), step=5), state(spec(), step=10))
    damage(tmp_path, 10)
    checkpoints = checkpoint.Checkpoints(str(tmp_path))
    assert int(checkpoints.restore_last(spec()).state.step) == 5
    between, again = state(spec(), step=7, seed=3), state(spec(), step=10, seed=4)
    checkpoints.save(between, POSITION)
    checkpoints.close()
    assert_same(restore(tmp_path, spec()).state, between)

    checkpoints = checkpoint.Checkpoints(str(tmp_path))
    checkpoints.restore_last(spec())
    checkpoints.save(again, POSITION)
    checkpoints.close()
    assert_same(restore(tmp_path, spec()).state, again)


def test_only_damaged_checkpoints_stop_the_run(tmp_path):
    save(tmp_path, state(spec(), step=5), state(spec(), step=10))
    for step in (5, 10):
        damage(tmp_path, step)
    with pytest.raises(CheckpointError, match=r"none of the checkpoints \[10, 5\] in .*Move the"):
        restore(tmp_path, spec())
    assert steps_in(tmp_path) == [5, 10]


def test_a_checkpoint_of_another_model_is_not_called_damaged(tmp_path, caplog):
    save(tmp_path, state(spec(), step=5))
    with pytest.raises(CheckpointError) as caught:
        restore(tmp_path, spec(width=16))
    kernel = "params/img/Transformer/encoderblock_{}/Dense_0/kernel"
    for fact in (
        "step 5",
        *(f"{kernel.format(i)} is float32 (8, 32) in the checkpoint" for i in range(2)),
        "float32 (16, 32) in the config",
        " and 3 more",
        f"--config.init={tmp_path}",
    ):
        assert fact in str(caught.value)
    assert "cannot be read" not in caplog.text
    assert steps_in(tmp_path) == [5]


@pytest.mark.parametrize("harm", [cut, turn_a_bit])
def test_reading_damaged_weights_is_an_error(tmp_path, harm):
    save(tmp_path, state(spec(width=64), step=5))
    harm(tmp_path / "checkpoints" / "5" / "params")
    with pytest.raises(CheckpointError, match="the weights of step 5 in .* cannot be read: "):
        checkpoint.read_params(str(tmp_path))

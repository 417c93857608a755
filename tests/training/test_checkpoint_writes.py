"""Writes of checkpoints, which go on in the background and may fail."""

import asyncio
import errno
import os
import resource
import shutil
import threading
import time

import orbax.checkpoint as ocp
import pytest

from clipa_jax.errors import CheckpointError
from clipa_jax.training import checkpoint
from tests.helpers.checkpoints import (
    POSITION,
    assert_same,
    first_state,
    restore,
    save,
    spec,
    state,
    steps_in,
)


class Held:
    """Holds Orbax's background write until it is let go, or makes it fail."""

    def __init__(self, monkeypatch, error=None):
        self.go, self.error = threading.Event(), error
        write = ocp.JsonCheckpointHandler._save_fn

        async def held(handler, content, folder):
            while not self.go.is_set():
                await asyncio.sleep(0.005)
            if self.error:
                raise self.error
            await write(handler, content, folder)

        monkeypatch.setattr(ocp.JsonCheckpointHandler, "_save_fn", held)


def test_saving_does_not_wait_for_the_file_system_but_closing_does(tmp_path, monkeypatch):
    held = Held(monkeypatch)
    checkpoints = checkpoint.Checkpoints(str(tmp_path))
    checkpoints.save(state(spec(), step=5), POSITION)
    checkpoints.check()
    (begun,) = (tmp_path / "checkpoints").iterdir()
    assert begun.name != "5"
    threading.Timer(0.2, held.go.set).start()
    checkpoints.close()
    assert steps_in(tmp_path) == [5]
    assert restore(tmp_path, spec()).position == POSITION


@pytest.mark.parametrize("notices", ["check", "close", "save"])
def test_a_failed_background_write_raises_an_error(tmp_path, monkeypatch, notices):
    saved = state(spec(), step=5)
    save(tmp_path, saved)
    held = Held(monkeypatch, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    checkpoints = checkpoint.Checkpoints(str(tmp_path))
    checkpoints.save(state(spec(), step=10), POSITION)
    held.go.set()
    again = {
        "check": lambda: [time.sleep(0.01) or checkpoints.check() for _ in range(1000)],
        "close": checkpoints.close,
        "save": lambda: checkpoints.save(state(spec(), step=15), POSITION),
    }
    with pytest.raises(CheckpointError) as caught:
        again[notices]()
    for fact in ("step 10", str(tmp_path / "checkpoints"), "No space left on device"):
        assert fact in str(caught.value)
    monkeypatch.undo()
    assert_same(restore(tmp_path, spec()).state, saved)


def test_a_file_size_limit_raises_an_error_and_keeps_earlier_checkpoints(tmp_path):
    """As on a full disk: the writes of Orbax itself fail."""
    wide = spec(width=64)
    saved = state(wide, step=5)
    save(tmp_path, saved)
    checkpoints = checkpoint.Checkpoints(str(tmp_path))
    large = state(wide, step=10)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(
            CheckpointError, match=r"of step 10 cannot be written to .*: File too large"
        ):
            checkpoints.save(large, POSITION)
            checkpoints.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_same(restore(tmp_path, wide).state, saved)


def test_a_full_disk_is_refused_before_any_work(tmp_path, monkeypatch):
    def usage(folder):
        assert str(folder) == str(tmp_path / "checkpoints")
        return shutil._ntuple_diskusage(10**9, 10**9 - free, free)

    monkeypatch.setattr(checkpoint.shutil, "disk_usage", usage)
    # Float32 weights and second moments, first moments in bfloat16, and two counts of steps.
    weights = 2 * 8 * 32 + 8 * 16 + 4 * 8 + 1
    free = weights * 10 + 4 - 1
    with pytest.raises(CheckpointError, match=r"takes 0\.0 GB, and .* has 0\.0 GB left; "):
        first_state(tmp_path, spec())
    free += 1
    assert first_state(tmp_path, spec()).lines == ["starts from scratch"]

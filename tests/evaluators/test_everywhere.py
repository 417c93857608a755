"""The same numbers on one device, on several, and on several processes."""

import json
import math
import socket
import subprocess
import sys

import jax
import pytest

from tests.evaluators import conftest
from tests.helpers import run_evaluators


@pytest.fixture
def alone(monkeypatch):
    """The values on one device."""
    data, model = conftest.make_world()
    conftest.install(data, monkeypatch.setattr)
    return run_evaluators.values(model, jax.devices()[:1])


def test_values_are_finite_and_not_trivial(alone):
    assert all(math.isfinite(value) for value in alone.values())
    assert 0 < alone["zero_shot/top5"] < 1
    assert 0 < alone["retrieval/i2t_r5"] < 1


def test_same_numbers_on_several_devices(alone, world):
    assert run_evaluators.values(world[1], jax.devices()) == pytest.approx(alone, rel=1e-6)


def test_same_numbers_on_two_processes(alone):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = str(probe.getsockname()[1])
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", run_evaluators.__name__, "2", str(index), port, "2"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    outputs = [process.communicate(timeout=600) for process in processes]
    assert all(process.returncode == 0 for process in processes), outputs[0][1][-3000:]
    for out, _ in outputs:
        assert json.loads(out.splitlines()[-1]) == pytest.approx(alone, rel=1e-6)

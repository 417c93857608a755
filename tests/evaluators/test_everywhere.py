"""The same numbers on one device, on several, and on several processes."""

import json
import math
import socket
import subprocess
import sys

import pytest

SCRIPT = "tests.helpers.run_evaluators"


def run(processes, devices):
    """The values that each of the processes printed."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", SCRIPT, str(processes), str(index), str(port), str(devices)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(processes)
    ]
    outputs = [process.communicate(timeout=600) for process in started]
    assert all(process.returncode == 0 for process in started), outputs[0][1][-3000:]
    return [json.loads(out.splitlines()[-1]) for out, _ in outputs]


@pytest.fixture(scope="module")
def alone():
    return run(1, 1)[0]


def test_values_are_finite_and_not_trivial(alone):
    assert all(math.isfinite(value) for value in alone.values())
    assert 0 < alone["zero_shot/top5"] < 1
    assert 0 < alone["retrieval/i2t_r5"] < 1


@pytest.mark.parametrize(("processes", "devices"), [(1, 8), (2, 2)])
def test_same_numbers_on_any_machine(alone, processes, devices):
    for values in run(processes, devices):
        assert values == pytest.approx(alone, rel=1e-6)

"""Goodput by cause, over restarts; MFU and memory."""

import math
from types import SimpleNamespace

import jax
import pytest

from clipa_jax.training import efficiency
from clipa_jax.training.efficiency import CAUSES, Efficiency


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = clock.time = lambda: clock.now
    monkeypatch.setattr(efficiency, "time", clock)
    return clock


def test_goodput_is_the_share_of_the_wall_time_that_no_cause_takes(clock):
    measured = Efficiency()
    for cause, seconds in zip(CAUSES, (30.0, 5.0, 10.0, 4.0), strict=False):
        with measured.losing(cause):
            clock.now += seconds
    clock.now += 51.0
    values = measured.metrics(None)
    assert values["goodput"] == pytest.approx(0.51)
    assert values["lost/compile"] == pytest.approx(0.30)
    assert values["lost/restart"] == 0
    shares = sum(value for name, value in values.items() if name.startswith("lost/"))
    assert shares + values["goodput"] == pytest.approx(1)


def test_a_restart_costs_all_the_time_since_the_checkpoint(clock):
    before = Efficiency()
    before.lose("compile", 10.0)
    clock.now = 60.0
    saved = before.state()
    clock.now = 100.0  # 30 s of steps that are lost, 10 s until the process is back
    after = Efficiency(saved)
    clock.now = 120.0
    values = after.metrics(None)
    assert values["lost/restart"] == pytest.approx(40 / 120)
    assert values["lost/compile"] == pytest.approx(10 / 120)
    assert values["goodput"] == pytest.approx(70 / 120)


def test_an_interrupted_block_counts(clock):
    measured = Efficiency()
    with pytest.raises(KeyboardInterrupt), measured.losing("evaluation"):
        clock.now += 4.0
        raise KeyboardInterrupt
    clock.now += 4.0
    assert measured.metrics(None)["lost/evaluation"] == pytest.approx(0.5)


def test_mfu_is_the_speed_over_that_at_the_peak_and_not_a_number_on_unknown_chips(clock):
    clock.now = 1.0
    known = Efficiency(num_chips=4, max_samples_per_second=1000.0).metrics(400.0)
    assert (known["samples_per_second_per_chip"], known["mfu"]) == (100, pytest.approx(0.4))
    assert math.isnan(Efficiency().metrics(400.0)["mfu"])
    assert "mfu" not in Efficiency(max_samples_per_second=1000.0).metrics(None)


def test_device_memory_is_the_highest_peak_where_the_backend_tells_it(monkeypatch):
    def devices(*peaks):
        stats = [{"peak_bytes_in_use": peak} if peak else None for peak in peaks]
        found = [SimpleNamespace(memory_stats=lambda known=known: known) for known in stats]
        monkeypatch.setattr(jax, "local_devices", lambda: found)

    devices(5, 7)
    assert Efficiency().metrics(None)["device_memory_bytes"] == 7
    devices(None)
    assert "device_memory_bytes" not in Efficiency().metrics(None)


def test_the_line_at_the_end_names_every_cause(clock):
    measured = Efficiency(num_chips=2, max_samples_per_second=200.0)
    clock.now = 50.0
    measured.lose("input", 10.0)
    measured.metrics(100.0)
    line = str(measured)
    assert line.startswith("goodput 80.0 % of 0:50; the rest: compile 0.0 %, input 20.0 %,")
    assert "50 samples/s per chip; MFU 50.0 %" in line

"""Samples, epochs and percent become steps, once."""

import pytest
from ml_collections import ConfigDict

from clipa_jax.config import durations, schema
from clipa_jax.config.durations import Durations
from clipa_jax.config.settings import Settings
from clipa_jax.errors import ConfigError


def section(**given) -> Settings:
    units = dict.fromkeys(f"x_{unit}" for unit in durations.UNITS)
    return Settings({**units, **given})


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ({"x_steps": 7}, 7),
        ({"x_examples": 12_811_670_000}, 195_490),  # 195,490.57: as in the released code
        ({"x_examples": 65_536 * 3}, 3),
        ({"x_epochs": 6.0}, 37_292),  # 37,292.4
        ({"x_percent": 5.0}, 50),
        ({"x_percent": 0.01}, 1),  # never nothing when something was asked for
        ({"x_examples": 1}, 1),
        ({"x_steps": 0}, 0),
        ({"x_percent": 0.0}, 0),
    ],
)
def test_every_unit_becomes_whole_steps(given, steps):
    got = durations.to_steps(
        section(**given), "x", batch_size=65_536, num_examples=407_332_084, total_steps=1_000
    )
    assert got == steps
    assert isinstance(got, int)


def test_rounding_errors_do_not_lose_a_step():
    assert 29 / 100 * 100 < 29
    assert durations.to_steps(section(x_percent=29), "x", batch_size=8, total_steps=100) == 29


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "exactly one of x_examples, x_steps, x_epochs, x_percent must be set; got: none"),
        ({"x_steps": 1, "x_epochs": 2}, "got: x_steps=1, x_epochs=2"),
        ({"x_steps": -1}, "x_steps=-1 must be a finite number, 0 or more"),
        ({"x_percent": float("nan")}, "x_percent=nan must be a finite number"),
        ({"x_epochs": 1.0}, "x_epochs needs data of known length"),
        ({"x_percent": 1.0}, "x_percent needs the length of the run"),
    ],
)
def test_duration_errors_name_the_key(given, said):
    with pytest.raises(ConfigError, match=said):
        durations.to_steps(section(**given), "x", batch_size=8)


def test_reading_a_duration_reads_all_its_units():
    config = section(x_steps=7)
    durations.to_steps(config, "x", batch_size=8)
    config.check_all_read()


def stage(**changes) -> ConfigDict:
    c = schema.default()
    c.total_examples = 8_000
    c.warmup_percent = 10.0
    c.update(changes)
    return c


def test_resolve_gives_all_durations_in_steps():
    c = stage(log_steps=None, log_examples=80, eval_percent=25.0, checkpoint_percent=0.0)
    steps = durations.resolve(Settings(c), batch_size=16, num_examples=None)
    assert steps == Durations(
        batch_size=16,
        total_steps=500,
        warmup_steps=50,
        log_steps=5,
        eval_steps=125,
        checkpoint_steps=0,
    )
    assert steps.total_examples == 8_000


def test_a_run_has_at_least_one_step():
    c = stage(total_examples=0)
    with pytest.raises(ConfigError, match="the run has 0 steps"):
        durations.resolve(Settings(c), batch_size=16, num_examples=None)


def test_warmup_longer_than_the_run_is_refused():
    c = stage(warmup_percent=None, warmup_steps=501)
    with pytest.raises(ConfigError, match="warm-up takes 501 steps, the whole run only 500"):
        durations.resolve(Settings(c), batch_size=16, num_examples=None)


def test_an_override_replaces_the_other_units():
    c = stage(total_steps=10)
    durations.override_siblings(c, ["total_steps", "seed", "optim.b2"])
    assert c.total_examples is None
    assert c.total_steps == 10
    assert c.warmup_percent == 10.0


def test_an_override_in_a_stage_replaces_its_other_units():
    c = schema.schedule({"pretrain": stage(), "finetune": stage()})
    c.pretrain.total_steps = 10
    durations.override_siblings(c, ["pretrain.total_steps"])
    assert c.pretrain.total_examples is None
    assert c.finetune.total_examples == 8_000


def test_two_units_on_the_command_line_are_refused():
    c = stage(total_steps=10, total_examples=80)
    with pytest.raises(ConfigError, match="both total_steps and total_examples are set"):
        durations.override_siblings(c, ["total_steps", "total_examples"])

"""A stage that cannot fit the devices is refused before anything is allocated."""

import pytest

from clipa_jax.config import durations
from clipa_jax.config.settings import Settings
from clipa_jax.errors import ConfigError
from clipa_jax.planning import analytic, capacity, workload
from clipa_jax.training import program
from tests.helpers import tiny


@pytest.fixture(scope="module")
def config():
    return tiny.config(input__preprocess="decode|resize({res})")


def program_of(config):
    c = Settings(config)
    steps = durations.resolve(c, batch_size=c.input.batch_size, num_examples=None)
    return program.build(c, tiny.mesh(), steps, program.batch_spec(c.input))


@pytest.fixture(scope="module")
def built(config):
    return program_of(config)


def test_the_state_of_a_device_is_parameters_and_both_moments(built):
    # float32 parameters and second moments, bfloat16 first moments, and a few scalars.
    assert built.spec.bytes_per_device() == pytest.approx(built.num_params * 10, abs=64)


def test_a_state_above_the_memory_is_refused_with_what_to_do(config, built, monkeypatch):
    limit = built.spec.bytes_per_device() * 0.9
    monkeypatch.setattr(capacity, "device_memory", lambda device: limit)
    with pytest.raises(ConfigError, match="stage train needs about .*16 samples.*microbatch"):
        capacity.check("train", config, built)


def test_activations_far_above_the_memory_are_refused(config, built, monkeypatch):
    config = config.copy_and_resolve_references()
    monkeypatch.setattr(capacity, "device_memory", lambda device: 3 * 2**20)
    capacity.check("train", config, built)
    with config.unlocked():
        config.loss.name = "softmax_naive"
        config.input.batch_size = 4096
    with pytest.raises(ConfigError, match="4,096 samples"):
        capacity.check("train", config, program_of(config))


def test_auto_recomputes_as_little_as_the_memory_allows(config):
    config = config.copy_and_resolve_references()
    config.model.image.remat = "auto"
    config.total_steps, config.total_epochs = None, 0.5
    needs = {}
    for remat in analytic.REMAT:
        config.model.image.remat = remat
        needs[remat] = analytic.memory(workload.read(config, 2**20), 1).total
    config.model.image.remat = "auto"
    for remat in analytic.REMAT:
        chosen = capacity.settle(config, 1, needs[remat] / capacity.ROOM * 1.001)
        assert (chosen.model.image.remat, chosen.model.text.remat) == (remat, "none")
    assert capacity.settle(config, 1, None).model.image.remat == "full"


def test_a_stage_that_fits_says_nothing(config, built, caplog):
    capacity.check("train", config, built)
    assert not caplog.records

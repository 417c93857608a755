"""Estimates without a compiler."""

import re

import pytest

from clipa_jax.config import recipes
from clipa_jax.errors import ConfigError
from clipa_jax.planning import analytic, chips, report, workload
from tests.helpers import tiny

GIB = 2**30


def work(stage="pretrain", size="H/14", **changes):
    config = recipes.load(f"model_{size[0].lower()}/{stage}")
    config.update_from_flattened_dict({key.replace("__", "."): x for key, x in changes.items()})
    return workload.read(config)


def test_the_state_holds_moments_and_gradient_of_every_parameter():
    """Parameter, gradient and second moment in float32, the first moment in bfloat16."""
    stage = work()
    assert analytic.memory(stage, 64).state == stage.num_params * 14 / 64
    copied = work(sharding__preset="dp")
    assert analytic.memory(copied, 64).state == stage.num_params * 14


def test_activations_of_full_rematerialization_by_hand():
    """Full recomputation keeps the input of each layer, 2 bytes a number."""
    stage = work()
    kept = 1024 * (32 * 37 * 1280 + 24 * 8 * 1024) * 2
    assert analytic.memory(stage, 64).activations == kept


def test_policies_trade_memory_for_flops():
    memory, flops = [], []
    for remat in ("full", "dots_no_batch", "dots", "none"):
        stage = work(model__image__remat=remat, model__text__remat=remat)
        memory.append(analytic.memory(stage, 64).activations)
        flops.append(analytic.step_flops(stage) / stage.step_flops)
    assert memory == sorted(memory) and flops == sorted(flops, reverse=True)
    # A layer without its last product again: 2/3 of 1/3.
    assert flops[0] == pytest.approx(1 + 2 / 9, abs=0.01) and flops[-1] == 1


def test_micro_batches_cost_a_forward_pass_and_keep_less():
    whole, micro = work(), work(microbatch=8_192)
    more = analytic.step_flops(micro) - analytic.step_flops(whole)
    forward = whole.forward.image + whole.forward.text
    assert more == pytest.approx(65_536 * forward)
    assert analytic.memory(micro, 64).activations == analytic.memory(whole, 64).activations / 8


def test_hours_follow_from_the_efficiency():
    stage, chip = work(), chips.chip("h200")
    got = analytic.estimate(stage, chip, 8, 0.5)
    assert got.step_seconds == pytest.approx(stage.step_flops / (8 * 989e12 * 0.5))


def test_impossible_batches_and_efficiencies_are_refused():
    with pytest.raises(ConfigError, match="batch 16 does not divide over 5 chips; nearest: 15"):
        analytic.estimate(workload.read(tiny.config()), chips.chip("h100"), 5, 0.3)
    with pytest.raises(ConfigError, match="efficiency 1.5 must be"):
        analytic.estimate(work(), chips.chip("h100"), 8, 1.5)


@pytest.mark.parametrize("name", ["T4", "L4", "A10G", "4090", "RTX 4090", "A100-40GB", "B200"])
def test_common_gpus_are_known_in_any_spelling(name):
    gpu = chips.chip(name)
    assert gpu.peak >= 65e12 and gpu.memory >= 16 * GIB


def test_an_unknown_device_lists_the_known_ones():
    with pytest.raises(ConfigError, match="unknown device 'h300'.*known: v4, v5e, .*t4, l4.*b200"):
        chips.chip("h300")


def test_the_plan_of_a_small_config_has_no_zeros():
    stage, chip = workload.read(tiny.config()), chips.chip("t4")
    price = chips.Price(0.35, "as given")
    estimate = analytic.estimate(stage, chip, 1, 0.3)
    plan = report.PlannedStage(stage, chip, 1, price, estimate=estimate)
    lines = report.text([plan], "a title").splitlines()
    for label in ("model FLOPs of a sample", "memory of a chip", "step  ", "chip-hours", "cost"):
        (line,) = (line for line in lines if line.strip().startswith(label))
        assert re.search("[1-9]", line), line

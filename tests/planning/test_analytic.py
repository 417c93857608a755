"""Estimates without a compiler."""

import pytest

from clipa_jax.config import recipes
from clipa_jax.errors import ConfigError
from clipa_jax.planning import analytic, chips, workload
from tests.helpers import tiny

GIB = 2**30


def work(stage="pretrain", size="H/14", **changes):
    config = recipes.load(f"model_{size[0].lower()}/{stage}")
    config.update_from_flattened_dict({key.replace("__", "."): x for key, x in changes.items()})
    return workload.read(config)


def test_the_state_is_what_training_holds_of_every_parameter():
    """Parameter, gradient and second moment in float32, the first moment in bfloat16."""
    one = work()
    assert analytic.memory(one, 64).state == one.num_params * 14 / 64
    copied = work(sharding__preset="dp")
    assert analytic.memory(copied, 64).state == one.num_params * 14


def test_what_layers_keep_by_hand():
    """Full recomputation keeps the input of each layer, 2 bytes a number."""
    one = work()
    kept = 1024 * (32 * 37 * 1280 + 24 * 8 * 1024) * 2
    assert analytic.memory(one, 64).activations == kept


def test_policies_trade_memory_for_arithmetic():
    memory, flops = [], []
    for remat in ("full", "dots_no_batch", "dots", "none"):
        one = work(model__image__remat=remat, model__text__remat=remat)
        memory.append(analytic.memory(one, 64).activations)
        flops.append(analytic.step_flops(one) / one.step_flops)
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
    one, chip = work(), chips.chip("h200")
    got = analytic.estimate(one, chip, 8, 0.5)
    assert got.step_seconds == pytest.approx(one.step_flops / (8 * 989e12 * 0.5))


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="batch 16 does not divide over 5 chips; nearest: 15"):
        analytic.estimate(workload.read(tiny.config()), chips.chip("h100"), 5, 0.3)
    with pytest.raises(ConfigError, match="efficiency 1.5 must be"):
        analytic.estimate(work(), chips.chip("h100"), 8, 1.5)
    with pytest.raises(ConfigError, match="unknown device 'h300'; nearest: h"):
        chips.chip("h300")

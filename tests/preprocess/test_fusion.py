"""Ops of a preprocessing string are fused, and gathered into phases on batches and on samples."""

import numpy as np
import pytest
import tensorflow as tf

from clipa_jax.preprocess import fusion, registry


@pytest.fixture
def ops(monkeypatch):
    """A registry for the ops of one test."""
    monkeypatch.setattr(registry, "OPS", {})
    return registry


def test_neighboring_ops_are_fused_and_draw_the_same_numbers(ops, monkeypatch):
    ops.op("a")(lambda: lambda s: s)
    ops.op("b", draws=1)(lambda size: lambda s, *, draws: {**s, "x": ("b", size, float(draws[0]))})
    ops.op("ab", draws=1)(lambda size: lambda s, *, draws: {"x": ("ab", size, float(draws[0]))})
    monkeypatch.setattr(fusion, "FUSED", {("a", "b"): ("ab",)})
    sample = {"seed": tf.constant([0, 1], tf.int64)}
    apart = ops.build("a|b(3)")(sample)["x"]
    steps = [ops.Step.of(call) for call in fusion.fuse(ops.parse("a|b(3)"))]
    assert ops.chain(steps)(sample)["x"] == ("ab", *apart[1:])
    assert apart[0] == "b"


def test_an_op_without_its_neighbor_is_not_fused(ops, monkeypatch):
    ops.op("a")(lambda size=0: lambda s: s)
    ops.op("b")(lambda: lambda s: s)
    monkeypatch.setattr(fusion, "FUSED", {("a", "b"): ("ab",)})
    for spec in ("b", "b|a", "a(3)|b"):
        assert fusion.fuse(ops.parse(spec)) == ops.parse(spec)


def test_batched_ops_run_after_ops_on_other_entries(ops):
    ops.op("crop")(lambda: lambda sample: sample)
    ops.op("flip", batched=True)(lambda: lambda sample: sample)
    ops.op("words", entry="text")(lambda: lambda sample: sample)
    phases = fusion.phases("flip|crop|flip|words")
    names = [([step.call.name for step in phase.steps], phase.batched) for phase in phases]
    # A crop follows the first flip; only words follow the second.
    assert names == [(["flip"], True), (["crop", "words"], False), (["flip"], True)]


def test_a_switch_has_a_phase_of_its_own(ops):
    switch = fusion.Switch("index", [], (), "image", tf.TensorSpec(()))
    ops.op("plain")(lambda: lambda sample: sample)
    ops.op("switch")(lambda: switch)
    phases = fusion.phases("plain|switch|plain")
    assert [phase.function is switch for phase in phases] == [False, True, False]


def test_phases_draw_the_same_numbers_as_one_sample_alone(ops):
    ops.op("one", draws=3)(lambda: lambda s, *, draws: {**s, "x": draws})
    ops.op("all", draws=2, batched=True)(lambda: lambda s, *, draws: {**s, "y": draws})
    ops.op("seed")(lambda: lambda s, *, seed: {**s, "z": seed})
    seeds = tf.constant([[0, 1], [0, 2], [7, 1], [-1, 1 << 40]], tf.int64)
    phases = fusion.phases("one|all|seed")
    batch = fusion.draw(phases, seeds)
    numbers = []
    for row, seed in enumerate(seeds):
        sample = {key: value[row] for key, value in batch.items()}
        for phase in phases:
            sample = phase.function(sample)
        alone = ops.build("one|all|seed")({"seed": seed})
        for key in "xyz":
            np.testing.assert_array_equal(sample[key], alone[key])
        numbers += [*sample["x"].numpy(), *sample["y"].numpy()]
    assert len(set(numbers)) == len(numbers)

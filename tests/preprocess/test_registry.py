"""Preprocessing strings: parsing, seeds, fused ops and ops on batches."""

import numpy as np
import pytest
import tensorflow as tf

from clipa_jax.errors import ConfigError
from clipa_jax.preprocess import registry
from clipa_jax.preprocess.registry import Call


@pytest.fixture
def ops(monkeypatch):
    """A registry of its own for ops of this test."""
    monkeypatch.setattr(registry, "OPS", {})
    return registry


def plus(amount):
    return lambda sample: {**sample, "x": sample["x"] + amount}


def test_parse():
    calls = registry.parse("decode|inception_crop(84, area_min=40) | jitter(0.4)")
    assert calls == [
        Call("decode", (), {}),
        Call("inception_crop", (84,), {"area_min": 40}),
        Call("jitter", (0.4,), {}),
    ]


def test_bars_and_brackets_inside_quotes():
    calls = registry.parse("decode|tokenize(8, vocab='a|b)(c', reduction=\"random\")")
    assert calls[1].kwargs == {"vocab": "a|b)(c", "reduction": "random"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("decode|inception_corp(84)", "nearest: inception_crop"),
        ("decode|resize()", "missing a required argument: 'size'"),
        ("decode|flip_lr(9)", "too many positional"),
        ("decode|resize(sighs=8)", "unexpected keyword argument 'sighs'|missing a required"),
        ("decode|resize(__import__('os'))", "name or name\\(literals\\)"),
        ("decode|resize(size)", "name or name\\(literals\\)"),
        ("decode||resize(8)", "name or name\\(literals\\)"),
        ("decode|resize(8", "name or name\\(literals\\)"),
        ("", "name or name\\(literals\\)"),
        ("os.system('x')", "name or name\\(literals\\)"),
    ],
)
def test_bad_strings(spec, message):
    with pytest.raises(ConfigError, match=message):
        registry.build(spec)


def test_ops_run_in_order(ops):
    ops.op("plus")(plus)
    ops.op("times")(lambda factor: lambda s: {**s, "x": s["x"] * factor})
    assert ops.build("plus(1)|times(10)|plus(2)")({"x": 3})["x"] == 42


def test_each_op_draws_for_itself(ops):
    ops.op("draw", draws=2)(lambda: lambda s, *, draws: {**s, "x": tf.concat([s["x"], draws], 0)})
    ops.op("seed")(lambda: lambda s, *, seed: {**s, "seeds": seed})
    build = ops.build("draw|draw|seed")
    sample = {"x": tf.zeros([0]), "seed": tf.constant([3, 4], tf.int64)}
    out = build(sample)
    draws = out["x"].numpy()
    assert draws.shape == (4,) and len(set(draws.tolist())) == 4
    assert ((draws >= 0) & (draws < 1)).all()
    np.testing.assert_array_equal(draws, build(sample)["x"])
    assert out["seeds"].numpy().tolist() == [3, 4 + (2 << 48)]
    assert "seed" not in out


def test_random_op_without_seed_says_so():
    with pytest.raises(ValueError, match="entry `seed`"):
        registry.build("jitter(0.4)")({"image": tf.zeros([4, 4, 3], tf.uint8)})


def test_neighbours_are_fused_and_draw_the_same(ops):
    ops.op("a")(lambda: lambda s: s)
    ops.op("b", draws=1)(lambda size: lambda s, *, draws: {**s, "x": ("b", size, float(draws[0]))})
    ops.op("ab", draws=1, fuses=("a", "b"))(
        lambda size: lambda s, *, draws: {**s, "x": ("ab", size, float(draws[0]))}
    )
    sample = {"seed": tf.constant([0, 1], tf.int64)}
    fused = ops.build("a|b(3)")(sample)["x"]
    apart = ops.build("a|b(3)", fuse=False)(sample)["x"]
    assert fused == ("ab", *apart[1:]) and apart[0] == "b"
    assert ops.build("b(3)")(sample)["x"][0] == "b"


def test_ops_that_take_batches_go_behind_ops_on_other_entries(ops):
    log = {"entry": "image"}
    ops.op("crop", **log)(lambda: lambda sample: sample)
    ops.op("flip", **log, batched=True)(lambda: lambda sample: sample)
    ops.op("words")(lambda: lambda sample: sample)
    _, phases = ops.phases("flip|crop|flip|words")
    found = [(phase.ops, phase.batched) for phase in phases]
    # The first flip has a crop behind it; the second has only words.
    assert found == [
        (("flip()",), True),
        (("crop()", "words()"), False),
        (("flip()",), True),
    ]


def test_phases_draw_the_same_as_one_sample_alone(ops):
    ops.op("one", draws=3)(lambda: lambda s, *, draws: {**s, "x": draws})
    ops.op("all", draws=2, batched=True)(lambda: lambda s, *, draws: {**s, "y": draws})
    ops.op("seed")(lambda: lambda s, *, seed: {**s, "z": seed})
    seeds = tf.constant([[0, 1], [0, 2], [7, 1], [-1, 1 << 40]], tf.int64)
    draw, phases = ops.phases("one|all|seed")
    batch = draw(seeds)
    drawn = []
    for row, seed in enumerate(seeds):
        sample = {key: value[row] for key, value in batch.items()}
        for phase in phases:
            sample = phase.function(sample)
        alone = ops.build("one|all|seed")({"seed": seed})
        for key in "xyz":
            np.testing.assert_array_equal(sample[key], alone[key])
        drawn += [*sample["x"].numpy(), *sample["y"].numpy()]
    assert len(set(drawn)) == len(drawn)


def test_drawn_numbers_are_uniform_and_independent():
    seeds = tf.stack([tf.zeros([4096], tf.int64), tf.range(4096, dtype=tf.int64)], 1)
    numbers = registry._uniform(seeds, 8).numpy().astype(np.float64)
    assert numbers.min() >= 0 and numbers.max() < 1
    counts = np.histogram(numbers, 64, (0, 1))[0]
    expected = numbers.size / 64
    assert ((counts - expected) ** 2 / expected).sum() < 110  # chi-square, 63 degrees
    correlations = np.corrcoef(np.hstack([numbers, np.roll(numbers, 1, 0)]).T) - np.eye(16)
    assert np.abs(correlations).max() < 5 / np.sqrt(4096)


def test_names_are_registered_once(ops):
    ops.op("plus")(plus)
    with pytest.raises(ValueError, match="registered twice"):
        ops.op("plus")(plus)

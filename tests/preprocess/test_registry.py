"""Preprocessing strings are parsed and checked; each op draws its own random numbers."""

import numpy as np
import pytest
import tensorflow as tf

from clipa_jax.errors import ConfigError
from clipa_jax.preprocess import draws, registry
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
    numbers = out["x"].numpy()
    assert numbers.shape == (4,) and len(set(numbers.tolist())) == 4
    assert ((numbers >= 0) & (numbers < 1)).all()
    np.testing.assert_array_equal(numbers, build(sample)["x"])
    assert out["seeds"].numpy().tolist() == [3, 4 + (2 << 48)]
    assert "seed" not in out


def test_random_op_without_seed_says_so():
    with pytest.raises(ValueError, match="seed"):
        registry.build("jitter(0.4)")({"image": tf.zeros([4, 4, 3], tf.uint8)})


def test_drawn_numbers_are_uniform_and_independent():
    seeds = tf.stack([tf.zeros([4096], tf.int64), tf.range(4096, dtype=tf.int64)], 1)
    numbers = draws.uniform(seeds, 8).numpy().astype(np.float64)
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

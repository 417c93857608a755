"""The optimizer: rates by step, and which parameters decay or stand still."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipa_jax.config import schema
from clipa_jax.config.durations import Durations
from clipa_jax.config.settings import Settings
from clipa_jax.errors import ConfigError
from clipa_jax.training import optim

DURATIONS = Durations(
    batch_size=512, total_steps=100, warmup_steps=10, log_steps=0, eval_steps=0, checkpoint_steps=0
)
PARAMS = {
    "img": {
        "cls": np.ones((1, 1, 4), np.float32),
        "embedding": {"kernel": np.ones((2, 2, 3, 4), np.float32)},
        "encoder_norm": {"scale": np.ones(4, np.float32), "bias": np.ones(4, np.float32)},
    },
    "t": np.ones(1, np.float32),
    "txt": {
        "Embed_0": {"embedding": np.ones((8, 4), np.float32)},
        "pos_embedding": np.ones((1, 2, 4), np.float32),
    },
}


def build(durations=DURATIONS, params=PARAMS, **changes):
    c = schema.optim()
    c.lr_per_256 = 0.5
    c.mu_dtype = "float32"
    c.update(changes)
    return optim.build(Settings(c), durations, params)


def step(optimizer, grads, params=PARAMS, steps=1):
    """Parameters after updates with constant gradients."""
    partition = optimizer.partition
    grads, trainable = partition.trainable(grads), partition.trainable(params)
    state = optimizer.tx.init(trainable)
    for _ in range(steps):
        updates, state = optimizer.tx.update(grads, state, trainable)
        trainable = jax.tree.map(jnp.add, trainable, updates)
    return partition.merge(trainable, params)


def test_peak_rate_is_linear_in_the_batch():
    assert build().peak_lr == 1.0
    assert build(Durations(65_536, 10, 0, 0, 0, 0), lr_per_256=8e-6).peak_lr == pytest.approx(
        2.048e-3
    )


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("cosine", {0: 0, 1: 0.1, 9: 0.9, 10: 1, 55: 0.5, 99: 3.045865e-4, 100: 0}),
        ("linear", {0: 0, 5: 0.5, 10: 1, 55: 0.5, 99: 1 / 90, 100: 0}),
        ("constant", {0: 0, 5: 0.5, 10: 1, 55: 1, 100: 1}),
    ],
)
def test_learning_rate_schedules_at_given_steps(name, at):
    schedule = build(schedule=name).schedule
    for count, rate in at.items():
        got = schedule(jnp.int32(count))
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, rate, atol=1e-6, err_msg=f"step {count}")


def test_without_warmup_the_first_update_has_the_peak_rate():
    schedule = build(Durations(256, 100, 0, 0, 0, 0)).schedule
    np.testing.assert_allclose(schedule(jnp.int32(0)), 0.5)


def moved(decay, weight_decay=0.2):
    """Which leaves weight decay alone moves, and by how much in one step at rate 0.5."""
    durations = Durations(256, 100, 0, 0, 0, 0)
    optimizer = build(durations, decay=decay, weight_decay=weight_decay)
    after = step(optimizer, jax.tree.map(np.zeros_like, PARAMS))
    flat = optim.trees.flatten(after)
    return {name: float(1 - leaf.max()) for name, leaf in flat.items() if leaf.max() != 1}


def test_kernels_alone_decay_as_on_the_released_main_branch():
    assert moved("kernels") == {"img/embedding/kernel": pytest.approx(0.5 * 0.2)}


def test_all_but_small_decay_as_for_the_released_g_14():
    assert set(moved("all_but_small")) == {
        "img/cls",
        "img/embedding/kernel",
        "txt/Embed_0/embedding",
    }


def test_decay_none_decays_no_parameter():
    assert moved("none") == {}
    assert moved("kernels", weight_decay=0.0) == {}


def test_adam_with_decoupled_decay_by_hand():
    """Two steps of one kernel: the decay is added after Adam, before the rate."""
    durations = Durations(256, 100, 0, 0, 0, 0)
    optimizer = build(durations, schedule="constant", b1=0.9, b2=0.95, eps=1e-8)
    params = {"a": {"kernel": np.full(1, 2.0, np.float32)}}
    state = optimizer.tx.init(params)
    weight, mu, nu = 2.0, 0.0, 0.0
    for count, gradient in enumerate([0.3, -0.1], start=1):
        grads = {"a": {"kernel": np.full(1, gradient, np.float32)}}
        updates, state = optimizer.tx.update(grads, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        mu, nu = 0.9 * mu + 0.1 * gradient, 0.95 * nu + 0.05 * gradient**2
        adam = (mu / (1 - 0.9**count)) / ((nu / (1 - 0.95**count)) ** 0.5 + 1e-8)
        weight -= 0.5 * (adam + 0.2 * weight)
        np.testing.assert_allclose(params["a"]["kernel"], weight, rtol=1e-6)


def test_lr_rules_scale_the_rate_and_zero_freezes():
    durations = Durations(256, 100, 0, 0, 0, 0)
    rules = (("txt/.*", 0), ("img/embedding/.*", 0.1))
    ones = jax.tree.map(np.ones_like, PARAMS)
    free = step(build(durations), ones, steps=2)
    ruled = step(build(durations, lr_rules=rules), ones, steps=2)
    np.testing.assert_array_equal(ruled["txt"]["Embed_0"]["embedding"], 1)
    np.testing.assert_array_equal(ruled["txt"]["pos_embedding"], 1)
    np.testing.assert_array_equal(ruled["img"]["cls"], free["img"]["cls"])
    first = step(build(durations), ones)["img"]["embedding"]["kernel"] - 1
    slow = step(build(durations, lr_rules=rules), ones)["img"]["embedding"]["kernel"] - 1
    np.testing.assert_allclose(slow, 0.1 * first, rtol=1e-5)


def test_a_factor_of_zero_stops_the_decay_too():
    durations = Durations(256, 100, 0, 0, 0, 0)
    optimizer = build(durations, lr_rules=(("img/.*", 0),))
    after = step(optimizer, jax.tree.map(np.zeros_like, PARAMS), steps=3)
    np.testing.assert_array_equal(after["img"]["embedding"]["kernel"], 1)


@pytest.mark.parametrize("pattern", ["image/.*", "img/embedding", ".*/kernal"])
def test_an_lr_rule_that_matches_no_parameter_is_refused(pattern):
    with pytest.raises(ConfigError, match="optim.lr_rules .* matches no parameter"):
        build(lr_rules=((pattern, 0.5),))


def test_clipping_bounds_the_global_norm():
    """With SGD-like Adam (b1 = b2 = 0) only the direction matters, so look at the moment."""
    optimizer = build(grad_clip=1.0, b1=0.0)
    grads = jax.tree.map(lambda leaf: 3 * np.ones_like(leaf), PARAMS)
    _, state = optimizer.tx.update(grads, optimizer.tx.init(PARAMS), PARAMS)
    mu = next(part.mu for part in state if hasattr(part, "mu"))
    np.testing.assert_allclose(optim.global_norm(mu), 1.0, rtol=1e-6)


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_the_first_moment_has_the_configured_dtype(name):
    state = build(mu_dtype=name).tx.init(PARAMS)
    moments = state[0]
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(moments.mu)} == {name}
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(moments.nu)} == {"float32"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schedule": "cosin"}, "nearest: cosine"),
        ({"decay": "kernel"}, "nearest: kernels"),
        ({"mu_dtype": "float16"}, "unknown config.mu_dtype 'float16'"),
        ({"grad_clip": 0.0}, "grad_clip=0.0 must be above 0"),
        ({"grad_clip": math.nan}, "grad_clip=nan must be above 0"),
        ({"b1": 1.0}, "b1=1.0 must be at least 0 and below 1"),
        ({"b2": -1.0}, "b2=-1.0 must be at least 0 and below 1"),
        ({"eps": 0.0}, "eps=0.0 must be above 0"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1 must be 0 or more"),
        ({"lr_per_256": math.nan}, "lr_per_256=nan must be 0 or more"),
    ],
)
def test_illegal_optim_values_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        build(**changes)


def test_optim_build_reads_every_key_of_the_optim_section():
    settings = Settings(schema.optim())
    optim.build(settings, DURATIONS, PARAMS)
    assert settings.unread() == []


def test_global_norm_counts_bfloat16_in_float32():
    tree = {"a": jnp.full(300, 1.0, jnp.bfloat16), "b": jnp.full(100, 1.0)}
    np.testing.assert_allclose(optim.global_norm(tree), 20.0)

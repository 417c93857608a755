"""Contrastive losses against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipa_jax import losses


def embeddings(batch=24, width=16, seed=0, noise=1.0):
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(batch, width))
    pairs = [shared + noise * rng.normal(size=(batch, width)) for _ in range(2)]
    return [z / np.linalg.norm(z, axis=1, keepdims=True) for z in pairs]


def cross_entropy(logits):
    peak = logits.max(axis=1, keepdims=True)
    normaliser = peak[:, 0] + np.log(np.exp(logits - peak).sum(axis=1))
    return (normaliser - np.diagonal(logits)).mean()


@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])
def test_softmax_is_the_mean_of_both_cross_entropies(scale):
    zimg, ztxt = embeddings()
    logits = scale * zimg @ ztxt.T
    expected = (cross_entropy(logits) + cross_entropy(logits.T)) / 2
    loss, metrics = losses.softmax(jnp.float32(zimg), jnp.float32(ztxt), jnp.float32(scale))
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, expected, rtol=2e-6)
    right = (logits.argmax(axis=1) == np.arange(24)).mean()
    assert 0 < right < 1
    np.testing.assert_allclose(metrics["accuracy"], right)


def test_softmax_of_indistinguishable_pairs_is_log_batch():
    z = jnp.ones((8, 4)) / 2
    np.testing.assert_allclose(losses.softmax(z, z, jnp.float32(10.0))[0], np.log(8), rtol=1e-6)


def test_softmax_of_perfect_pairs_is_zero():
    z = jnp.eye(8)
    loss, metrics = losses.softmax(z, z, jnp.float32(100.0))
    np.testing.assert_allclose(loss, 0, atol=1e-6)
    assert metrics["accuracy"] == 1


def test_softmax_gradient_by_hand():
    """d loss / d logits is (softmax of rows + softmax of columns) / 2 - identity, over B."""
    zimg, ztxt = embeddings(batch=10, seed=1)
    scale = 7.0
    logits = scale * zimg @ ztxt.T
    rows = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    columns = np.exp(logits) / np.exp(logits).sum(axis=0, keepdims=True)
    upstream = ((rows + columns) / 2 - np.eye(10)) / 10
    expected = scale * upstream @ ztxt, scale * upstream.T @ zimg, (upstream * logits).sum() / scale

    def loss(*inputs):
        return losses.softmax(*inputs)[0]

    arguments = jnp.float32(zimg), jnp.float32(ztxt), jnp.float32(scale)
    got = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*arguments)
    for gradient, by_hand in zip(got, expected, strict=True):
        np.testing.assert_allclose(gradient, by_hand, atol=1e-6)


def test_softmax_does_not_overflow():
    z = jnp.eye(4)
    loss, _ = losses.softmax(z, jnp.roll(z, 1, axis=0), jnp.float32(1e4))
    np.testing.assert_allclose(loss, 1e4, rtol=1e-6)


def test_every_loss_has_a_name():
    assert losses.LOSSES["softmax"] is losses.softmax

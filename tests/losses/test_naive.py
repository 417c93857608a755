"""The losses as one writes them down, against float64 and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipa_jax.losses import naive
from tests.helpers import tiny


def cross_entropy(logits):
    peak = logits.max(axis=1, keepdims=True)
    normalizer = peak[:, 0] + np.log(np.exp(logits - peak).sum(axis=1))
    return (normalizer - np.diagonal(logits)).mean()


@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])
def test_softmax_is_the_mean_of_both_cross_entropies(embeddings, scale):
    zimg, ztxt = embeddings()
    logits = scale * zimg @ ztxt.T
    expected = (cross_entropy(logits) + cross_entropy(logits.T)) / 2
    loss, metrics = tiny.jit(naive.softmax)(
        jnp.float32(zimg), jnp.float32(ztxt), jnp.float32(scale)
    )
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, expected, rtol=2e-6)
    right = (logits.argmax(axis=1) == np.arange(24)).mean()
    assert 0 < right < 1
    np.testing.assert_allclose(metrics["accuracy"], right)


def test_softmax_of_indistinguishable_pairs_is_log_batch():
    z = jnp.ones((8, 4)) / 2
    np.testing.assert_allclose(
        tiny.jit(naive.softmax)(z, z, jnp.float32(10.0))[0], np.log(8), rtol=1e-6
    )


def test_softmax_of_perfect_pairs_is_zero():
    z = jnp.eye(8)
    loss, metrics = tiny.jit(naive.softmax)(z, z, jnp.float32(100.0))
    np.testing.assert_allclose(loss, 0, atol=1e-6)
    assert metrics["accuracy"] == 1


def test_softmax_gradient_by_hand(embeddings):
    """d loss / d logits is (softmax of rows + softmax of columns) / 2 - identity, over B."""
    zimg, ztxt = embeddings(batch=10, seed=1)
    scale = 7.0
    logits = scale * zimg @ ztxt.T
    rows = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    columns = np.exp(logits) / np.exp(logits).sum(axis=0, keepdims=True)
    upstream = ((rows + columns) / 2 - np.eye(10)) / 10
    expected = scale * upstream @ ztxt, scale * upstream.T @ zimg, (upstream * logits).sum() / scale

    def loss(*inputs):
        return naive.softmax(*inputs)[0]

    arguments = jnp.float32(zimg), jnp.float32(ztxt), jnp.float32(scale)
    got = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*arguments)
    for gradient, by_hand in zip(got, expected, strict=True):
        np.testing.assert_allclose(gradient, by_hand, atol=1e-6)


def test_softmax_does_not_overflow():
    z = jnp.eye(4)
    loss, _ = tiny.jit(naive.softmax)(z, jnp.roll(z, 1, axis=0), jnp.float32(1e4))
    np.testing.assert_allclose(loss, 1e4, rtol=1e-6)


@pytest.mark.parametrize("bias", [None, -10.0])
def test_sigmoid_is_the_sum_over_pairs_of_their_own_cross_entropies(embeddings, bias):
    zimg, ztxt = embeddings()
    logits = 10.0 * zimg @ ztxt.T + (bias or 0.0)
    signs = 2 * np.eye(24) - 1
    expected = np.log1p(np.exp(-signs * logits)).sum() / 24
    arguments = jnp.float32(zimg), jnp.float32(ztxt), jnp.float32(10.0)
    loss, metrics = tiny.jit(naive.sigmoid)(*arguments, None if bias is None else jnp.float32(bias))
    np.testing.assert_allclose(loss, expected, rtol=2e-6)
    np.testing.assert_allclose(metrics["accuracy"], (logits.argmax(1) == np.arange(24)).mean())


def test_sigmoid_does_not_overflow():
    z = jnp.eye(4)
    loss, _ = tiny.jit(naive.sigmoid)(
        z, jnp.roll(z, 1, axis=0), jnp.float32(1e4), jnp.float32(-10.0)
    )
    np.testing.assert_allclose(loss, 1e4 - 10 + 10, rtol=1e-6)  # a false match and a missed one


def test_pairs_with_equal_captions_are_ignored(embeddings):
    """By hand: the logits of such pairs leave every sum, in both directions."""
    zimg, ztxt = embeddings(batch=6)
    caption = np.array([7, 3, 7, 5, 7, 3], np.int32)
    logits = 9.0 * zimg @ ztxt.T
    counts = (caption[:, None] != caption) | np.eye(6, dtype=bool)
    powers = np.where(counts, np.exp(logits), 0)
    softmax = (np.log(powers.sum(1)) + np.log(powers.sum(0))) / 2 - np.diagonal(logits)
    terms = np.log1p(np.exp(np.where(np.eye(6, dtype=bool), -logits, logits)))
    arguments = jnp.float32(zimg), jnp.float32(ztxt), jnp.float32(9.0), None, jnp.array(caption)
    loss, metrics = tiny.jit(naive.softmax)(*arguments)
    np.testing.assert_allclose(loss, softmax.mean(), rtol=1e-6)
    right = np.diagonal(logits) >= np.where(counts, logits, -np.inf).max(1)
    np.testing.assert_allclose(metrics["accuracy"], right.mean())
    np.testing.assert_allclose(
        tiny.jit(naive.sigmoid)(*arguments)[0], terms[counts].sum() / 6, rtol=1e-6
    )
    assert loss < tiny.jit(naive.softmax)(*arguments[:3])[0]

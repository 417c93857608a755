"""The losses in little memory equal the naive ones, on every mesh, and take little memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipa_jax import losses, sharding
from clipa_jax.errors import ConfigError
from clipa_jax.losses import naive, tiled
from tests.helpers import tiny

NAIVE = {"softmax": (naive.softmax, None), "sigmoid": (naive.sigmoid, -7.0)}
TILED = {"softmax": tiled.softmax, "sigmoid": tiled.sigmoid}
SCALE = 1 / 0.07
BATCH = 48
# replica, fsdp, tensor
MESHES = [
    *((8, 1, 1), (4, 2, 1), (1, 8, 1)),
    *((4, 1, 2), (2, 2, 2), (1, 2, 4), (1, 1, 8)),
]
CAPTION = np.random.default_rng(3).integers(0, 30, BATCH).astype(np.int32)


def value_and_gradients(loss, zimg, ztxt, bias, caption=None, scale=SCALE, mesh=None):
    """(loss, accuracy, gradients of embeddings, scale and bias) as the compiler makes them."""
    split = jax.devices()[0] if mesh is None else sharding.batch_sharding(mesh)
    rows = [jax.device_put(jnp.float32(z), split) for z in (zimg, ztxt)]
    caption = None if caption is None else jax.device_put(jnp.asarray(caption), split)
    scalars = [jnp.float32(scale), None if bias is None else jnp.float32(bias)]
    compiled = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3), has_aux=True))
    (value, metrics), grads = compiled(*rows, *scalars, caption)
    if mesh is not None:
        assert grads[0].sharding.is_equivalent_to(split, 2)
    return jax.device_get((value, metrics["accuracy"], grads))


def check_equal(got, expected, zimg, ztxt):
    """Within 1e-6 of the loss, and of the largest entry of each gradient.

    The scale's gradient is a sum of terms of both signs; its error is measured by what they
    come to without their signs.
    """
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-6)
    assert got[1] == expected[1]
    for one, other in zip(got[2][:2], expected[2][:2], strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6 * np.abs(other).max())
    terms = np.abs(zimg * expected[2][0]).sum() / SCALE
    np.testing.assert_allclose(got[2][2], expected[2][2], rtol=0, atol=1e-6 * terms)
    if expected[2][3] is not None:
        np.testing.assert_allclose(got[2][3], expected[2][3], rtol=1e-6)


@pytest.fixture(scope="module", params=["softmax", "sigmoid"])
def expected(request, embeddings):
    """(name, embeddings, results of the naive loss with and without masked duplicates)."""
    loss, bias = NAIVE[request.param]
    pairs = embeddings(BATCH)
    naive_results = {
        masked: value_and_gradients(loss, *pairs, bias, CAPTION if masked else None)
        for masked in (False, True)
    }
    assert abs(naive_results[True][0] - naive_results[False][0]) > 1e-3  # there are duplicates
    return request.param, pairs, naive_results


@pytest.mark.parametrize("masked", [False, True], ids=["all pairs", "masked"])
@pytest.mark.parametrize("tile", [48, 24, 17, 1])
def test_tiles_of_any_size_give_the_naive_loss_and_gradients(expected, tile, masked):
    name, pairs, naive_results = expected
    mesh = tiny.mesh(1)
    caption = CAPTION if masked else None
    got = value_and_gradients(
        TILED[name](mesh, tile=tile), *pairs, NAIVE[name][1], caption, mesh=mesh
    )
    check_equal(got, naive_results[masked], *pairs)


@pytest.mark.parametrize("shape", MESHES, ids=str)
def test_every_mesh_gives_the_naive_loss_and_gradients(expected, shape):
    """Half of them in tiles of their rows, some of them padded; with masked duplicates."""
    name, pairs, naive_results = expected
    mesh = sharding.make_mesh(*shape)
    loss = TILED[name](mesh, tile=5 if shape[0] > 1 else 4096)
    got = value_and_gradients(loss, *pairs, NAIVE[name][1], CAPTION, mesh=mesh)
    check_equal(got, naive_results[True], *pairs)


@pytest.mark.parametrize("name", TILED)
def test_large_scales_neither_overflow_nor_lose_rows(embeddings, name):
    """Logits so far apart that most powers are zero, in tiles that come before the own text."""
    pairs = embeddings(BATCH, noise=0.3)
    mesh = sharding.make_mesh(fsdp=8)
    loss, bias = NAIVE[name]
    pairs[1] = np.roll(pairs[1], 1, axis=0)  # nobody's own text scores highest
    want = value_and_gradients(loss, *pairs, bias, scale=1e4)
    got = value_and_gradients(TILED[name](mesh), *pairs, bias, scale=1e4, mesh=mesh)
    np.testing.assert_allclose(got[0], want[0], rtol=1e-6)
    assert np.isfinite(got[2][0]).all() and got[1] == want[1] == 0
    np.testing.assert_allclose(got[2][0], want[2][0], atol=2e-3 * np.abs(want[2][0]).max())


def test_a_nan_in_an_embedding_gives_a_nan_loss(embeddings):
    zimg, ztxt = embeddings(BATCH)
    zimg[7, 3] = np.nan
    for build in TILED.values():
        loss = tiny.jit(build(tiny.mesh(1)))
        assert np.isnan(loss(jnp.float32(zimg), jnp.float32(ztxt), jnp.float32(9.0))[0])


def test_two_calls_are_equal_to_the_last_bit(embeddings):
    pairs, mesh = embeddings(BATCH), sharding.make_mesh(fsdp=8)
    one, again = (
        value_and_gradients(tiled.softmax(mesh), *pairs, None, CAPTION, mesh=mesh) for _ in range(2)
    )
    jax.tree.map(np.testing.assert_array_equal, one, again)


def test_a_batch_that_does_not_divide_over_the_devices_is_refused(embeddings):
    zimg, ztxt = (jnp.float32(z) for z in embeddings(44))
    with pytest.raises(ConfigError, match="batch 44 is not divisible by 8 .*nearest: 48"):
        tiled.softmax(sharding.make_mesh(fsdp=8))(zimg, ztxt, jnp.float32(9.0))


def temporary(name: str, devices: int = 1) -> float:
    """GiB that value and gradient need beside arguments and results, per device. Compiles only."""
    mesh = tiny.mesh(devices)
    z_BE = jax.ShapeDtypeStruct((65_536, 1_024), np.float32, sharding=sharding.batch_sharding(mesh))
    one = jax.ShapeDtypeStruct((), np.float32, sharding=sharding.replicated(mesh))
    step = jax.jit(jax.value_and_grad(losses.build(name, mesh), argnums=(0, 1, 2, 3), has_aux=True))
    memory = step.lower(z_BE, z_BE, one, one).compile().memory_analysis()
    return memory.temp_size_in_bytes / 2**30


@pytest.mark.parametrize("name", TILED)
def test_a_batch_of_65536_fits_where_the_naive_loss_does_not(name):
    assert temporary(name) < 0.5
    assert temporary(name, devices=8) < 0.5
    assert temporary(f"{name}_naive") > 16


def test_the_metric_duplicates_is_the_share_of_repeated_captions():
    keep, mask = (
        tiny.jit(losses.build("softmax", tiny.mesh(1), duplicates))
        for duplicates in ("keep", "mask")
    )
    pairs = jnp.eye(8), jnp.eye(8), jnp.float32(9.0), None
    caption = jnp.array([5, -2, 5, 9, 5, 1, 9, 0], jnp.int32)
    loss, metrics = keep(*pairs, caption)
    assert metrics["duplicates"] == 5 / 8
    without, metrics = keep(*pairs)
    assert "duplicates" not in metrics
    masked, metrics = mask(*pairs, caption)
    assert metrics["duplicates"] == 5 / 8
    assert masked < loss == without


def test_every_loss_has_a_naive_form():
    assert set(losses.LOSSES) == {*TILED, *(f"{name}_naive" for name in TILED)}

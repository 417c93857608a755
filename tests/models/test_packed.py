"""The packed attention kernels, interpreted on CPU; compiled for a v5e where libtpu is there."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding

from clipa_jax.errors import ConfigError
from clipa_jax.models import packed, sizes
from clipa_jax.planning import topology
from tests.helpers import tiny

needs_libtpu = pytest.mark.skipif(not topology.available(), reason="libtpu is not installed")

TOKENS = (8, 16, 17, 26, 32, 37, 50, 101, 154, 180, 197, 257, 346, 577)
TOWERS = {
    (tower.width, tower.num_heads)
    for name in "SBLHG"
    for tower in (sizes.SIZES[name].image, sizes.SIZES[name].text)
}
# Relative error of a tensor, in the Euclidean norm. One rounding to bfloat16 is off by up to
# 2^-8 = 3.9e-3 (2.3e-3 on average); XLA's own attention in bfloat16 is off by 4e-3 in its output
# and 7e-3 in its gradients.
TOLERANCE = 8e-3


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize(("width", "heads"), sorted(TOWERS))
def test_every_published_shape_fits(tokens, width, heads):
    tiling = packed.tile(tokens, heads, width // heads)
    assert packed.vmem_bytes(tiling) <= packed.VMEM_PLANNED
    assert tokens <= tiling.stride < 1.04 * tokens
    assert tiling.rows % 16 == tiling.lanes % 128 == tiling.window % 16 == heads % tiling.group == 0
    span = tiling.packed * tiling.stride
    assert span <= tiling.window <= tiling.rows
    assert tiling.window <= 128 or tiling.packed == 1


@pytest.mark.parametrize(
    ("tokens", "width"),
    [(8, 1024), (32, 1024), (37, 1280), (180, 1280), (346, 1280), (37, 1664), (154, 1664)],
)
def test_the_published_training_stages_have_no_padding(tokens, width):
    assert packed.tile(tokens, 16, width // 16).stride == tokens


@pytest.mark.parametrize(
    ("tokens", "heads", "head_width", "said"),
    [
        (37, 3, 32, "a width of 96, not a multiple of 128; nearest: 128;"),
        (37, 9, 22, "a width of 198.*; nearest: 256;"),
        (7, 2, 64, "sequences of 7 tokens; nearest: 8;"),
        (2000, 2, 64, "sequences of 2000 tokens; nearest: 640;"),
        (577, 32, 100, "577 tokens and 32 heads of width 100 in .*; nearest: 5.. tokens;"),
    ],
)
def test_other_shapes_are_refused(tokens, heads, head_width, said):
    with pytest.raises(ConfigError, match=f"attention=packed does not support {said}"):
        packed.tile(tokens, heads, head_width)


def reference(z_BTF, bias, tiling, dtype):
    """Attention by JAX in a given precision, of (B, T, 3D) in the order of `packed.join`."""
    batch, tokens, _ = z_BTF.shape
    groups = tiling.heads // tiling.group
    z = (z_BTF.astype(dtype) + bias.astype(dtype)).reshape(
        batch, tokens, groups, 3, tiling.group, tiling.head_width
    )
    q, k, v = (z[:, :, :, i].reshape(batch, tokens, tiling.heads, -1) for i in range(3))
    out = jax.nn.dot_product_attention(q, k, v, is_causal=tiling.causal)
    return out.reshape(batch, tokens, -1)


def kernel(z_BTF, bias, tiling):
    z = packed.flatten(z_BTF, tiling)
    return packed.unflatten(packed.attention(z, bias, tiling), tiling)


def draw(tiling, batch, seed=0):
    """(projected tokens, their bias, gradient of the output), all values of bfloat16."""
    rng = np.random.default_rng(seed)
    shape = (batch, tiling.tokens, tiling.width)
    z = 1.5 * rng.normal(size=(*shape[:2], 3 * tiling.width))
    bias = jnp.asarray(rng.normal(size=3 * tiling.width), jnp.bfloat16).astype(jnp.float32)
    return jnp.asarray(z, jnp.bfloat16), bias, jnp.asarray(rng.normal(size=shape), jnp.bfloat16)


@functools.partial(tiny.jit, static_argnums=(3, 4))
def run(z, bias, dout, attend, tiling):
    """(output, gradient of the tokens, gradient of the bias)."""
    out, vjp = jax.vjp(lambda z, bias: attend(z, bias, tiling), z, bias)
    return out, *vjp(dout)


def in_float32(z, bias, tiling):
    return reference(z, bias, tiling, jnp.float32)


def error(got, expected):
    got, expected = (np.asarray(x, np.float32) for x in (got, expected))
    return np.linalg.norm(got - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("tokens", "heads", "head_width", "batch", "options"),
    [
        (8, 2, 64, 32, {}),  # aligned windows
        (17, 2, 64, 48, {}),  # the last window starts earlier and computes two images again
        (37, 2, 64, 48, {}),  # three grid steps
        (37, 2, 64, 16, {"causal": True}),
        (26, 4, 64, 8, {"vmem": 2**22}),  # several groups of heads
        (37, 8, 80, 16, {}),  # heads across tiles
        (101, 2, 64, 2, {"vmem": 2**22}),  # padded to 104
        (180, 2, 64, 4, {}),  # one image to a window
        (37, 2, 64, 5, {}),  # a batch that does not divide
    ],
)
def test_values_and_gradients_are_those_of_float32(tokens, heads, head_width, batch, options):
    tiling = packed.tile(tokens, heads, head_width, **options)
    arrays = draw(tiling, batch)
    got = run(*arrays, kernel, tiling)
    expected = run(*(x.astype(jnp.float32) for x in arrays), in_float32, tiling)
    for name, a, b in zip(("output", "gradient", "bias"), got, expected, strict=True):
        assert error(a, b) < TOLERANCE, name


def test_small_budgets_of_vmem_give_groups_and_padding():
    """The cases above are what they claim to be."""
    assert packed.tile(26, 4, 64, vmem=2**22).group == 2
    assert packed.tile(101, 2, 64, vmem=2**22).stride == 104


def test_sequences_do_not_leak_into_their_neighbors():
    """Another image changes its own output and gradients alone, every bit of the others stays."""
    tiling = packed.tile(37, 2, 64)
    z, bias, dout = draw(tiling, 16)
    out, dz, _ = run(z, bias, dout, kernel, tiling)
    # The last window holds images 13 to 15 and is clamped: 481 // 16 * 16 + 128 rows exceed 592.
    for image in (0, 1, 4, 13, 15):
        others = np.arange(16) != image
        out_2, dz_2, _ = run(z.at[image].multiply(-30), bias, dout, kernel, tiling)
        for a, b in ((out, out_2), (dz, dz_2)):
            assert np.array_equal(a[others], b[others])
            assert not np.array_equal(a[image], b[image])


def test_the_gradient_of_the_bias_is_summed_in_float32():
    tiling = packed.tile(37, 2, 64)
    z, bias, dout = draw(tiling, 48)
    _, dz, dbias = run(z, bias, dout, kernel, tiling)
    total = np.asarray(dz, np.float32).sum(axis=(0, 1))
    assert error(dbias, total) < TOLERANCE


@needs_libtpu
@pytest.mark.parametrize(("tokens", "heads", "head_width"), [(37, 2, 64), (37, 8, 80)])
def test_a_v5e_compiles_both_kernels(tokens, heads, head_width):
    tiling = packed.tile(tokens, heads, head_width)
    chip = SingleDeviceSharding(topology.find("v5e:2x2").devices[0])
    rows, width = 32 * tokens, tiling.width
    arrays = (
        jax.ShapeDtypeStruct((rows, 3 * width), jnp.bfloat16, sharding=chip),
        jax.ShapeDtypeStruct((3 * width,), jnp.float32, sharding=chip),
        jax.ShapeDtypeStruct((rows, width), jnp.bfloat16, sharding=chip),
    )

    def differentiate(z, bias, dout):
        out, vjp = jax.vjp(lambda z, bias: packed.attention(z, bias, tiling), z, bias)
        return out, vjp(dout)

    text = jax.jit(differentiate).lower(*arrays).compile().as_text()
    assert text.count('custom_call_target="tpu_custom_call"') == 2

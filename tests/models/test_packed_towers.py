"""Both towers with packed attention: the model of the other attentions, on any mesh."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipa_jax import models, sharding, trees
from clipa_jax.config.settings import Settings
from clipa_jax.models import layers, layout, packed
from clipa_jax.training import state
from tests.helpers import tiny

KEPT = 8  # of 16 patches


def config(**overrides):
    """Towers of two heads of width 64; 9 image tokens and 8 text tokens."""
    c = tiny.config(model__dtype="bfloat16", model__layers="scanned", input__text_len=8)
    for tower in (c.model.image, c.model.text):
        tower.update(width=128, num_heads=2, mlp_dim=64)
    c.model.image.depth = 2
    c.model.text.causal = True
    c.model.image.pool = "map"
    c.update_from_flattened_dict({key.replace("__", "."): x for key, x in overrides.items()})
    return c


@functools.cache
def parameters():
    return tiny.init(config(model__layers="unrolled"))[1]


@functools.cache
def results(attention, layers="scanned", dtype="bfloat16", devices=1):
    """(embeddings, gradients by name of their products with random directions)."""
    c = config(model__attention=attention, model__layers=layers, model__dtype=dtype)
    model, batch, mesh = models.build(Settings(c.model)), tiny.batch(c), tiny.mesh(devices)
    params = layout.like(state.param_shapes(model, c.input.res, c.input.text_len), parameters())
    directions = np.random.default_rng(1).normal(size=(2, 16, 8)).astype(np.float32)
    keep_BK = np.tile(np.arange(KEPT, dtype=np.int32), (16, 1))

    def total(params):
        zimg, ztxt, _ = model.apply({"params": params}, batch["image"], batch["tokens"], keep_BK)
        return (zimg * directions[0]).sum() + (ztxt * directions[1]).sum(), (zimg, ztxt)

    function = sharding.on(mesh, jax.value_and_grad(total, has_aux=True))
    (_, z), gradients = tiny.jit(function, in_shardings=sharding.replicated(mesh))(params)
    return jax.device_get(z), trees.flatten(layout.unroll(jax.device_get(gradients)))


def error(got, expected):
    """Relative, in the Euclidean norm."""
    return np.linalg.norm(got - expected) / np.linalg.norm(expected)


def without_key_bias(gradients):
    """The exact gradient of a key's bias is zero; rounding alone remains."""
    return {name: x for name, x in gradients.items() if "key/bias" not in name and name != "t"}


def test_the_parameters_have_the_names_and_shapes_of_the_other_attentions():
    shapes = [
        state.param_shapes(models.build(Settings(config(model__attention=name).model)), 16, 8)
        for name in ("packed", "xla")
    ]
    assert jax.tree.structure(shapes[0]) == jax.tree.structure(shapes[1])
    assert jax.tree.leaves(shapes[0]) == jax.tree.leaves(shapes[1])


def test_the_parameters_start_at_the_same_values():
    c = models.build(Settings(config().model)).txt.config
    tiling = packed.tile(8, c.num_heads, 64)
    x_BTD = jnp.ones((1, 8, 128), jnp.bfloat16)
    usual = layers.Attention(c).init(jax.random.key(0), x_BTD, x_BTD)
    flat = layers.PackedAttention(c, tiling).init(jax.random.key(0), x_BTD[0])
    for name, leaf in trees.flatten(usual).items():
        np.testing.assert_array_equal(leaf, trees.flatten(flat)[name], err_msg=name)


def test_devices_attend_to_their_own_samples():
    """Bit by bit as one device; XLA cannot split a kernel, and would gather the batch."""
    tiling, mesh = packed.tile(17, 2, 64), tiny.mesh(4)
    rng = np.random.default_rng(0)
    z_NE = jnp.asarray(rng.normal(size=(64 * 17, 3 * 128)), jnp.bfloat16)
    bias_E = jnp.asarray(rng.normal(size=3 * 128), jnp.float32)

    def attend(z_NE, bias_E):
        function = functools.partial(packed.attention, tiling=tiling)
        return sharding.on_each_device(function, z_NE, bias_E, tiling.stride)

    split = tiny.jit(
        sharding.on(mesh, attend),
        in_shardings=(sharding.batch_sharding(mesh), sharding.replicated(mesh)),
    )
    compiled = split.lower(z_NE, bias_E).compile()
    assert "all-gather" not in compiled.as_text()
    np.testing.assert_array_equal(split(z_NE, bias_E), tiny.jit(attend)(z_NE, bias_E))


def test_embeddings_and_gradients_are_those_of_xla_in_float32():
    """With masked patches, a causal text tower and pooling by attention.

    As far as bfloat16 goes: XLA's own gradients are off by up to 0.02.
    """
    exact, ours = results("xla", dtype="float32"), results("packed")
    for z, z_exact in zip(ours[0], exact[0], strict=True):
        assert error(z, z_exact) < 0.02
    for name, expected in without_key_bias(exact[1]).items():
        assert error(ours[1][name], expected) < 0.04, name


@pytest.mark.parametrize("other", [{"devices": 4}, {"layers": "unrolled"}], ids=str)
def test_results_do_not_depend_on_devices_or_layout(other):
    """As far as bfloat16 goes; a sum over devices that is missing costs half of a gradient."""
    ours, same = results("packed"), results("packed", **other)
    for z, z_same in zip(ours[0], same[0], strict=True):
        assert error(z_same, z) < 0.02
    for name, expected in without_key_bias(ours[1]).items():
        assert error(same[1][name], expected) < 0.04, name

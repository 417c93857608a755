"""Layers side by side or stacked for a scan: the same weights, the same model."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from clipa_jax import trees
from clipa_jax.models import layout
from tests.helpers import tiny

DEPTH = {"model__image__depth": 2, "model__text__depth": 3}


@pytest.fixture(scope="module")
def stacked():
    return tiny.init(tiny.config(model__layers="scanned", **DEPTH))


@pytest.fixture(scope="module")
def unrolled():
    return tiny.init(tiny.config(**DEPTH))


def same(a, b):
    a, b = trees.flatten(a), trees.flatten(b)
    assert a.keys() == b.keys()
    for name, leaf in a.items():
        np.testing.assert_array_equal(leaf, b[name], err_msg=name)


def test_unroll_gives_the_names_of_the_unrolled_model(stacked, unrolled):
    got, expected = layout.unroll(stacked[1]), unrolled[1]
    assert trees.same_layout(trees.flatten(got), trees.flatten(expected)) == []
    kernel = stacked[1]["img"]["Transformer"]["encoderblock"]["MlpBlock_0"]["Dense_0"]["kernel"]
    blocks = got["img"]["Transformer"]
    for index in range(2):
        leaf = blocks[f"encoderblock_{index}"]["MlpBlock_0"]["Dense_0"]["kernel"]
        np.testing.assert_array_equal(leaf, kernel[index])


def test_unrolled_and_stacked_again_is_exact(stacked, unrolled):
    same(layout.like(stacked[1], layout.unroll(stacked[1])), stacked[1])
    same(layout.like(unrolled[1], layout.unroll(unrolled[1])), unrolled[1])


def test_optimizer_state_unrolled_and_stacked_again_is_exact(stacked):
    state = optax.adam(1.0).init(stacked[1])
    state = jax.tree.map(lambda leaf: leaf + jnp.arange(leaf.size).reshape(leaf.shape), state)
    again = layout.like(state, layout.unroll(state))
    assert jax.tree.structure(again) == jax.tree.structure(state)
    same(again, state)


def test_unrolled_shapes_drop_the_first_axis_of_the_layout():
    mesh = tiny.mesh(4)
    split = NamedSharding(mesh, P(None, "fsdp", None))
    one = jax.ShapeDtypeStruct((2, 8, 4), jnp.float32, sharding=split)
    whole = jax.ShapeDtypeStruct((), jnp.int32, sharding=NamedSharding(mesh, P()))
    got = layout.unrolled_shapes({"encoderblock": {"w": one}, "step": whole})
    assert set(got) == {"encoderblock_0", "encoderblock_1", "step"}
    assert got["encoderblock_1"]["w"].shape == (8, 4)
    assert got["encoderblock_1"]["w"].sharding.spec == P("fsdp", None)
    assert got["step"] == whole


def test_both_layouts_compute_the_same(stacked, unrolled):
    batch = tiny.batch(tiny.config())

    def run(model, params):
        def loss(params):
            zimg, ztxt, _ = model.apply({"params": params}, batch["image"], batch["tokens"])
            return jnp.sum(zimg * ztxt), (zimg, ztxt)

        grads, outputs = tiny.jit(jax.grad(loss, has_aux=True))(params)
        return outputs, grads

    model, params = stacked
    outputs, grads = run(model, params)
    others, other_grads = run(unrolled[0], layout.unroll(params))
    for z, other in zip(outputs, others, strict=True):
        np.testing.assert_allclose(z, other, atol=2e-6)
    grads, other_grads = trees.flatten(layout.unroll(grads)), trees.flatten(other_grads)
    length = optax.tree.norm(grads)
    for name, grad in grads.items():
        np.testing.assert_allclose(grad, other_grads[name], atol=1e-5 * length, err_msg=name)

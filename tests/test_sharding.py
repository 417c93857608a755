"""The mesh and the layout of parameters over it."""

import types

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from clipa_jax import sharding, trees
from clipa_jax.errors import ConfigError
from clipa_jax.settings import Settings

BLOCK = "img/Transformer/encoderblock_0"
SHAPES = {
    "img/cls": (1, 1, 16),
    "img/embedding/kernel": (4, 4, 3, 16),
    f"{BLOCK}/LayerNorm_0/scale": (16,),
    f"{BLOCK}/MlpBlock_0/Dense_0/bias": (64,),
    f"{BLOCK}/MlpBlock_0/Dense_0/kernel": (16, 64),
    f"{BLOCK}/MlpBlock_0/Dense_1/kernel": (64, 16),
    f"{BLOCK}/MultiHeadDotProductAttention_0/out/kernel": (4, 4, 16),
    f"{BLOCK}/MultiHeadDotProductAttention_0/query/bias": (4, 4),
    f"{BLOCK}/MultiHeadDotProductAttention_0/query/kernel": (16, 4, 4),
    "t": (1,),
    "txt/Embed_0/embedding": (32, 8),
    "txt/head/kernel": (5, 7),
}


def layout(mesh, preset, rules=(), shapes=SHAPES):
    tree = trees.unflatten(
        {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}
    )
    config = Settings({"preset": preset, "rules": rules}, "config.sharding")
    found = trees.flatten(sharding.param_shardings(tree, mesh, config))
    return {name: tuple(one.spec) for name, one in found.items()}


def mesh(**axes):
    return sharding.make_mesh(**axes)


def test_a_mesh_takes_what_the_other_axes_leave():
    assert dict(mesh().shape) == {"replica": 1, "fsdp": 8, "tensor": 1}
    assert dict(mesh(replica=2, tensor=2).shape) == {"replica": 2, "fsdp": 2, "tensor": 2}
    assert dict(mesh(replica=-1, fsdp=2).shape) == {"replica": 4, "fsdp": 2, "tensor": 1}
    one = sharding.make_mesh(devices=jax.devices()[:1])
    assert dict(one.shape) == {"replica": 1, "fsdp": 1, "tensor": 1}


@pytest.mark.parametrize(
    "axes",
    [
        {"fsdp": 3},
        {"replica": 3},
        {"replica": -1, "fsdp": -1},
        {"replica": 0},
        {"fsdp": 16},
        {"fsdp": 2, "tensor": 2},
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(axes):
    with pytest.raises(ConfigError, match="does not fit 8 devices; the axes must multiply to 8"):
        mesh(**axes)


def test_the_batch_is_split_over_all_data_parallel_devices():
    split = sharding.batch_sharding(mesh(replica=2, fsdp=2, tensor=2))
    assert split.shard_shape((16, 3)) == (4, 3)


@pytest.mark.parametrize(
    ("batch", "parts", "nearest"),
    [(65_336, 512, 65_536), (3, 4, 4), (1, 4, 4), (0, 4, 4), (-8, 4, 4), (1_001, 4, 1_000)],
)
def test_a_batch_that_does_not_divide_names_the_nearest(batch, parts, nearest):
    pod = types.SimpleNamespace(shape={"replica": 2, "fsdp": parts // 2, "tensor": 7})
    said = f"batch {batch} is not divisible by {parts} .*; nearest: {nearest}$"
    with pytest.raises(ConfigError, match=said):
        sharding.check_batch(batch, pod)
    sharding.check_batch(nearest, pod)


def test_a_batch_divides_over_devices_and_hosts():
    sharding.check_batch(24, mesh(replica=2, fsdp=2, tensor=2))
    with pytest.raises(ConfigError, match="nearest: 24"):
        sharding.check_batch(20, mesh(replica=2, fsdp=2, tensor=2), processes=3)


def test_dp_copies_everything():
    assert set(layout(mesh(), "dp").values()) == {()}


def test_fsdp_splits_the_longest_axis_that_divides():
    got = layout(mesh(), "fsdp")
    assert got["img/embedding/kernel"] == (None, None, None, "fsdp")
    assert got[f"{BLOCK}/MlpBlock_0/Dense_0/kernel"] == (None, "fsdp")
    assert got[f"{BLOCK}/MlpBlock_0/Dense_1/kernel"] == ("fsdp", None)
    assert got["txt/Embed_0/embedding"] == ("fsdp", None)
    assert got["txt/head/kernel"] == ()  # neither 5 nor 7 divides by 8
    assert got[f"{BLOCK}/LayerNorm_0/scale"] == ()  # vectors stay whole
    assert got["t"] == ()
    assert got["img/cls"] == (None, None, "fsdp")


def test_fsdp_on_one_device_splits_nothing():
    one = sharding.make_mesh(devices=jax.devices()[:1])
    assert set(layout(one, "fsdp").values()) == {()}


def test_fsdp_tp_splits_layers_by_head_and_hidden_unit():
    got = layout(mesh(fsdp=4, tensor=2), "fsdp_tp")
    attention = f"{BLOCK}/MultiHeadDotProductAttention_0"
    assert got[f"{attention}/query/kernel"] == ("fsdp", "tensor", None)
    assert got[f"{attention}/query/bias"] == ("tensor", None)
    assert got[f"{attention}/out/kernel"] == ("tensor", None, "fsdp")
    assert got[f"{BLOCK}/MlpBlock_0/Dense_0/kernel"] == ("fsdp", "tensor")
    assert got[f"{BLOCK}/MlpBlock_0/Dense_0/bias"] == ("tensor",)
    assert got[f"{BLOCK}/MlpBlock_0/Dense_1/kernel"] == ("tensor", "fsdp")
    assert got["txt/Embed_0/embedding"] == ("tensor", "fsdp")
    assert got["img/embedding/kernel"] == (None, None, None, "fsdp")  # the rest as with fsdp


def test_stacked_layers_have_their_layers_whole():
    name = "img/Transformer/encoderblock/MlpBlock_0/Dense_0/kernel"
    got = layout(mesh(fsdp=4, tensor=2), "fsdp_tp", shapes={name: (6, 16, 64)})
    assert got[name] == (None, "fsdp", "tensor")


def test_an_axis_that_does_not_divide_is_left_whole_by_a_preset():
    name = f"{BLOCK}/MultiHeadDotProductAttention_0/query/kernel"
    got = layout(mesh(fsdp=2, tensor=4), "fsdp_tp", shapes={name: (16, 3, 4)})
    assert got[name] == ("fsdp", None, None)


def test_rules_override_the_preset_and_the_first_counts():
    rules = ((r"txt/.*/embedding", (None, "fsdp")), (r"txt/.*", (None, None)))
    got = layout(mesh(), "fsdp", rules)
    assert got["txt/Embed_0/embedding"] == (None, "fsdp")
    assert got["txt/head/kernel"] == (None, None)
    assert got["img/embedding/kernel"] == (None, None, None, "fsdp")


def test_a_rule_may_join_axes():
    got = layout(mesh(replica=2, fsdp=4), "dp", ((r".*/embedding", (("replica", "fsdp"), None)),))
    assert got["txt/Embed_0/embedding"] == (("replica", "fsdp"), None)


def test_a_rule_that_does_not_divide_is_refused():
    with pytest.raises(ConfigError, match=r"does not divide txt/head/kernel of shape \(5, 7\)"):
        layout(mesh(), "dp", ((r"txt/head/kernel", ("fsdp", None)),))


def test_a_rule_that_matches_nothing_is_refused():
    with pytest.raises(ConfigError, match="sharding rule 'txt/hed/.*' matches no parameter"):
        layout(mesh(), "dp", ((r"txt/hed/.*", ("fsdp",)),))


@pytest.mark.parametrize("rule", [("data", None), ("fsdp", None, None)], ids=["axis", "too long"])
def test_a_rule_of_the_wrong_form_is_a_sentence(rule):
    with pytest.raises(ConfigError, match="sharding rule"):
        layout(mesh(), "dp", ((r"txt/head/kernel", rule),))


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(ConfigError, match="nearest: fsdp"):
        layout(mesh(), "fdsp")


def test_replicated_is_a_whole_copy():
    assert sharding.replicated(mesh()).spec == P()

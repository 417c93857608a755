"""Meshes, batches and where parameters lie."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from clipa_jax import sharding, trees
from clipa_jax.config.settings import Settings
from clipa_jax.errors import ConfigError

BLOCK = "img/Transformer/encoderblock_0/"
SHAPES = {
    BLOCK + "MultiHeadDotProductAttention_0/query/kernel": (16, 2, 8),
    BLOCK + "MultiHeadDotProductAttention_0/query/bias": (2, 8),
    BLOCK + "MultiHeadDotProductAttention_0/out/kernel": (2, 8, 16),
    BLOCK + "MlpBlock_0/Dense_0/kernel": (16, 32),
    BLOCK + "MlpBlock_0/Dense_0/bias": (32,),
    BLOCK + "MlpBlock_0/Dense_1/kernel": (32, 16),
    "img/head/kernel": (16, 8),
    "img/odd/kernel": (5, 7),
    "txt/Embed_0/embedding": (33, 16),
    "t": (1,),
}
QUERY, QUERY_BIAS, OUT, UP, UP_BIAS, DOWN, HEAD, ODD, EMBED, T = SHAPES


def mesh(**axes):
    return sharding.make_mesh(**axes)


def specs(mesh, preset, rules=(), shapes=None):
    """The specs by name, without the Nones at their ends, which say nothing."""
    tree = trees.unflatten(
        {n: jax.ShapeDtypeStruct(s, np.float32) for n, s in (shapes or SHAPES).items()}
    )
    config = Settings({"preset": preset, "rules": rules}, "config.sharding")
    laid = trees.flatten(sharding.param_shardings(tree, mesh, config))
    assert all(one.mesh == mesh for one in laid.values())
    return {name: bare(one.spec) for name, one in laid.items()}


def bare(spec):
    axes = list(spec)
    while axes and axes[-1] is None:
        axes.pop()
    return tuple(axes)


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ({}, (1, 8, 1)),
        ({"tensor": 2}, (1, 4, 2)),
        ({"replica": -1, "fsdp": 2}, (4, 2, 1)),
        ({"replica": 2, "fsdp": 2, "tensor": 2}, (2, 2, 2)),
    ],
)
def test_a_mesh_takes_all_devices(axes, shape):
    made = mesh(**axes)
    assert tuple(made.shape[axis] for axis in ("replica", "fsdp", "tensor")) == shape
    assert set(made.devices.flat) == set(jax.devices())


@pytest.mark.parametrize(
    "axes",
    [
        {"tensor": 3},
        {"replica": 2, "fsdp": 2},
        {"replica": -1},  # fsdp is -1 too
        {"fsdp": 0},
        {"replica": 16},
        {"replica": -2, "fsdp": -1},
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(axes):
    with pytest.raises(ConfigError, match="does not fit 8 devices; the axes must multiply to 8"):
        mesh(**axes)


@pytest.mark.parametrize(
    ("batch", "axes", "processes", "said"),
    [
        (65_336, {}, 512, "batch 65336 is not divisible by 512 .*nearest: 65536"),
        (12, {}, 1, "batch 12 is not divisible by 8 .*nearest: (8|16)$"),
        (1, {}, 1, "nearest: 8$"),
        (0, {}, 1, "nearest: 8$"),
        (-8, {}, 1, "nearest: 8$"),
        (8, {}, 3, "not divisible by 24 .*nearest: 24$"),
        (6, {"replica": 2, "tensor": 2}, 1, "not divisible by 4 "),
    ],
)
def test_a_batch_that_does_not_divide_names_the_nearest(batch, axes, processes, said):
    with pytest.raises(ConfigError, match=said):
        sharding.check_batch(batch, mesh(**axes), processes)


def test_only_data_parallel_devices_divide_the_batch():
    sharding.check_batch(4, mesh(tensor=2))
    sharding.check_batch(1, mesh(fsdp=1, tensor=8))


def test_a_batch_is_split_over_replica_and_fsdp():
    x = np.arange(16).reshape(8, 2)
    made = mesh(replica=2, fsdp=2, tensor=2)
    on_device = jax.device_put(x, sharding.batch_sharding(made))
    assert {shard.data.shape for shard in on_device.addressable_shards} == {(2, 2)}
    whole = jax.device_put(x, sharding.replicated(made))
    assert {shard.data.shape for shard in whole.addressable_shards} == {(8, 2)}


def test_preset_dp_replicates_all_parameters():
    assert set(specs(mesh(), "dp").values()) == {()}


def test_fsdp_splits_the_longest_axis_that_divides():
    got = specs(mesh(fsdp=4, tensor=2), "fsdp")
    assert got[UP] == (None, "fsdp")  # (16, 32)
    assert got[DOWN] == ("fsdp",)  # (32, 16)
    assert got[OUT] == (None, None, "fsdp")  # (2, 8, 16)
    assert got[EMBED] == (None, "fsdp")  # 33 rows do not divide
    assert got[ODD] == got[UP_BIAS] == got[T] == ()


def test_fsdp_over_one_device_replicates():
    assert set(specs(mesh(replica=8, fsdp=1), "fsdp").values()) == {()}


def test_fsdp_tp_splits_heads_and_hidden_units():
    got = specs(mesh(fsdp=4, tensor=2), "fsdp_tp")
    assert got[QUERY] == ("fsdp", "tensor")
    assert got[QUERY_BIAS] == ("tensor",)
    assert got[OUT] == ("tensor", None, "fsdp")
    assert got[UP] == ("fsdp", "tensor")
    assert got[UP_BIAS] == ("tensor",)
    assert got[DOWN] == ("tensor", "fsdp")
    assert got[EMBED] == (None, "fsdp")  # 33 rows do not divide over tensor
    assert got[HEAD] == ("fsdp",)


def test_stacked_layers_keep_their_first_axis_whole():
    stacked = {n.replace("_0/", "/", 1): (4, *s) for n, s in SHAPES.items() if n.startswith(BLOCK)}
    got = specs(mesh(fsdp=4, tensor=2), "fsdp_tp", shapes=stacked)
    assert got[QUERY.replace("_0/", "/", 1)] == (None, "fsdp", "tensor")
    assert got[UP_BIAS.replace("_0/", "/", 1)] == (None, "tensor")


def test_the_first_matching_sharding_rule_overrides_the_preset():
    rules = ((r"img/head/kernel", (None, "tensor")), (r".*/kernel", ()))
    got = specs(mesh(fsdp=4, tensor=2), "fsdp", rules)
    assert got[HEAD] == (None, "tensor")
    assert got[UP] == got[OUT] == ()
    assert got[EMBED] == (None, "fsdp")


def test_a_rule_may_split_an_axis_over_two_axes_of_the_mesh():
    got = specs(mesh(fsdp=4, tensor=2), "dp", ((r"img/head/kernel", (("fsdp", "tensor"),)),))
    assert got[HEAD] == (("fsdp", "tensor"),)


@pytest.mark.parametrize(
    ("preset", "rules", "said"),
    [
        ("fsdpp", (), r"unknown config.sharding.preset 'fsdpp'; nearest: fsdp"),
        ("dp", ((r"img/haed/kernel", ()),), "sharding rule 'img/haed/kernel' .*img/head/kernel"),
        ("dp", ((r".*", ()), (r"t", ())), "sharding rule 't' matches no parameter"),
        (
            "dp",
            ((r"img/odd/.*", ("fsdp",)),),
            r"does not divide img/odd/kernel of shape \(5, 7\)",
        ),
        ("dp", ((r"t", (None, "fsdp")),), r"'fsdp'.* t of shape \(1,\)"),
        ("dp", ((r"img/head/kernel", ("fdsp",)),), "head/kernel': 'fdsp'; nearest: fsdp"),
        ("dp", ((r"img/head/kernel", ("fsdp", "fsdp")),), "names the axis fsdp twice"),
    ],
    ids=["preset", "misspelt", "hidden", "size", "too many axes", "axis", "axis twice"],
)
def test_impossible_sharding_rules_are_refused(preset, rules, said):
    with pytest.raises(ConfigError, match=said):
        specs(mesh(), preset, rules)


def test_shards_hold_parts_of_a_parameter():
    spec = specs(mesh(fsdp=4, tensor=2), "fsdp_tp")[UP]
    x = jax.device_put(
        np.zeros(SHAPES[UP]), jax.sharding.NamedSharding(mesh(fsdp=4, tensor=2), P(*spec))
    )
    assert {shard.data.shape for shard in x.addressable_shards} == {(4, 16)}

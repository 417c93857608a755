"""The number that stands for every bit of a tree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from clipa_jax import sharding
from clipa_jax.runtime import fingerprint


def tree():
    rng = np.random.default_rng(0)
    return {
        "a": {"w": rng.normal(size=(8, 16)).astype(np.float32), "b": jnp.ones(8, jnp.bfloat16)},
        "step": np.int32(7),
        "key": np.array([1, 2], np.uint32),
    }


def test_fingerprint_equals_a_computation_by_hand():
    # Ones as int32 at places 0 to 3 count 1, 3, 5, 7 times; the CRC of "x" is made odd.
    assert fingerprint.of({"x": jnp.ones((2, 2), jnp.int32)}) == 16 * (0x8CDC1683 | 1) % 2**32


def test_fingerprint_is_the_same_on_any_mesh():
    mesh = sharding.make_mesh(tensor=2)
    split = jax.NamedSharding(mesh, P("fsdp", "tensor"))
    laid = tree()
    laid["a"]["w"] = jax.device_put(laid["a"]["w"], split)
    assert fingerprint.of(laid) == fingerprint.of(tree())


@pytest.mark.parametrize("entry", [(0, 0), (3, 5), (7, 15)])
@pytest.mark.parametrize("bit", [0, 17, 31])
def test_fingerprint_changes_with_every_bit(entry, bit):
    other = tree()
    other["a"]["w"].view(np.uint32)[entry] ^= np.uint32(1 << bit)
    assert fingerprint.of(other) != fingerprint.of(tree())


def test_fingerprint_changes_with_leaf_names():
    one = tree()
    one["a"] = {"v": one["a"]["w"], "b": one["a"]["b"]}
    assert fingerprint.of(one) != fingerprint.of(tree())

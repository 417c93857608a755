"""FLOPs of traced programs: products, convolutions, loops and recomputation."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from clipa_jax import sharding
from clipa_jax.config.settings import Settings
from clipa_jax.planning import traced, workload
from clipa_jax.training import program
from tests.helpers import tiny

x, w = jnp.ones((3, 5)), jnp.ones((5, 5))
PRODUCT = 2 * 3 * 5 * 5


def flops(function, *arguments) -> float:
    return traced.flops(jax.jit(function).trace(*arguments))


def layer(x, w):
    return jnp.tanh(x @ w)


def test_a_scan_counts_every_iteration():
    def scanned(x, w):
        return jax.lax.scan(lambda x, _: (layer(x, w), None), x, None, length=7)[0]

    assert flops(scanned, x, w) == 7 * PRODUCT
    # XLA's own count takes the body once.
    assert jax.jit(scanned).lower(x, w).compile().cost_analysis()["flops"] < 7 * PRODUCT


@pytest.mark.parametrize(
    ("policy", "products"), [("everything_saveable", 2 + 3), ("nothing_saveable", 2 + 2 + 3)]
)
def test_recomputation_counts_and_unused_results_do_not(policy, products):
    """Two layers forward, perhaps again, and three products backward: none for `x`."""
    saved = getattr(jax.checkpoint_policies, policy)

    def loss(w):
        unused = x @ w
        del unused
        return jax.checkpoint(lambda w: layer(layer(x, w), w), policy=saved)(w).sum()

    assert flops(jax.value_and_grad(loss), w) == products * PRODUCT


def test_a_shard_map_counts_the_work_of_all_devices():
    mesh = tiny.mesh(8)
    split = jax.shard_map(layer, mesh=mesh, in_specs=(P("fsdp"), P()), out_specs=P("fsdp"))
    rows = jnp.ones((16, 5))
    assert flops(split, rows, w) == flops(layer, rows, w) == 2 * 16 * 5 * 5


def test_the_most_expensive_branch_counts():
    def branched(x, w):
        return jax.lax.cond(x.sum() > 0, lambda: x, lambda: layer(layer(x, w), w))

    assert flops(branched, x, w) == 2 * PRODUCT


def test_a_convolution_counts_its_kernel_at_every_output():
    def patches(image, kernel):
        return jax.lax.conv_general_dilated(
            image, kernel, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    image, kernel = jnp.ones((2, 16, 16, 3)), jnp.ones((4, 4, 3, 8))
    assert flops(patches, image, kernel) == 2 * 2 * (4 * 4) * 8 * (4 * 4 * 3)


@pytest.mark.parametrize("layers", ["unrolled", "scanned"])
@pytest.mark.parametrize("remat", ["none", "dots_no_batch", "qkv+hidden", "full"])
def test_the_training_step_counts_its_recomputation(layers, remat):
    """By hand: the model, no gradient of the pixels, and for `full` the layers once more."""
    config = tiny.config(
        model__layers=layers, model__image__depth=3, model__image__remat=remat,
        model__text__remat=remat,
    )  # fmt: skip
    work, c = workload.read(config), Settings(config)
    mesh = c.mesh.call(sharding.make_mesh)
    training = program.build(c, mesh, work.durations, program.batch_spec(c.input))
    forward, batch = work.forward, c.input.batch_size
    pixels = 2 * 16 * 48 * 16
    attention = 3 * 4 * 17**2 * 16 + 4 * 4**2 * 16
    dense = 2 * (3 * 17 + 4) * 16 * 32
    projections = 3 * 8 * 17 * 16**2 + 8 * 4 * 16**2
    again = {"none": 0, "dots_no_batch": attention, "full": attention + projections + dense}
    again["qkv+hidden"] = attention + projections / 4
    expected = batch * (forward.training - pixels + again[remat])
    # The tiled loss computes the logits once more.
    expected += batch * forward.loss
    assert traced.flops(training.trace()) == pytest.approx(expected, rel=1e-3)

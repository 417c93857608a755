"""Rules by parameter: `lr_rules`, `freeze` and `layer_decay`, on unrolled and scanned layers."""

import functools

import jax
import numpy as np
import pytest

from clipa_jax import trees
from clipa_jax.errors import ConfigError
from clipa_jax.models import layout
from clipa_jax.training import checkpoint, partition
from tests.helpers import tiny

LAYERS = ("unrolled", "scanned")
BLOCK = "img/Transformer/encoderblock_"
DEPTH = 3


def config(**changes):
    c = tiny.config(warmup_steps=0, optim__schedule="constant", **changes)
    c.model.image.depth = c.model.text.depth = DEPTH
    return c


@functools.cache
def weights():
    """Parameters by name, with layers unrolled."""
    return trees.flatten(tiny.init(config())[1])


@functools.cache
def run(layers="unrolled", microbatch=None, steps=1, **optim):
    """(spec, state, metrics) after some steps of the compiled update."""
    changes = {f"optim__{key}": value for key, value in optim.items()}
    c = config(model__layers=layers, microbatch=microbatch, **changes)
    mesh = tiny.mesh(1)
    spec = tiny.make_spec(c, mesh)
    params = layout.like(spec.shapes.params, trees.unflatten(weights()))
    state, metrics = spec.with_params(params, seed=0), {}
    update = tiny.update(c, spec, mesh)
    for _ in range(steps):
        state, metrics = update(state, tiny.batch(c))
    return spec, jax.device_get(state), jax.device_get(metrics)


def changes(*args, **keys):
    """The change of each parameter, by unrolled name."""
    _, state, _ = run(*args, **keys)
    after = trees.flatten(layout.unroll(state.params))
    return {name: np.asarray(after[name]) - weights()[name] for name in weights()}


def moments(state):
    """Names of the parameters that have an optimizer state, with layers unrolled."""
    names = trees.flatten(layout.unroll(state.opt_state))
    return {name.removeprefix("0/mu/") for name in names if name.startswith("0/mu/")}


@pytest.mark.parametrize("layers", LAYERS)
def test_lr_rules_scale_the_update_of_single_layers(layers):
    rules = ((f"{BLOCK}1/.*", 0.5), ("txt/.*", 0.25))
    plain, ruled = changes(layers), changes(layers, lr_rules=rules)
    for name, change in plain.items():
        factor = 0.5 if name.startswith(f"{BLOCK}1/") else 0.25 if name.startswith("txt/") else 1
        np.testing.assert_allclose(ruled[name], factor * change, atol=2e-7, err_msg=name)


@pytest.mark.parametrize("layers", LAYERS)
def test_layer_decay_lowers_the_rate_layer_by_layer(layers):
    plain, decayed = changes(layers), changes(layers, layer_decay=0.5)
    exponents = {"img/head/kernel": 0, "img/encoder_norm/scale": 0, "t": 0}
    exponents |= {f"{BLOCK}{i}/MlpBlock_0/Dense_0/kernel": DEPTH - i for i in range(DEPTH)}
    exponents |= dict.fromkeys(("img/embedding/kernel", "txt/Embed_0/embedding"), DEPTH + 1)
    for name, exponent in exponents.items():
        np.testing.assert_allclose(
            decayed[name], 0.5**exponent * plain[name], atol=2e-7, err_msg=name
        )


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("microbatch", [None, 4])
def test_a_frozen_tower_stays_bit_equal_and_has_no_optimizer_state(layers, microbatch):
    _, state, _ = run(layers, microbatch, freeze=("image",), steps=2)
    after = trees.flatten(layout.unroll(state.params))
    for name, leaf in weights().items():
        assert np.array_equal(after[name], leaf) == name.startswith("img/"), name
    assert moments(state) == {name for name in weights() if not name.startswith("img/")}


@pytest.mark.parametrize("layers", LAYERS)
def test_frozen_parameters_have_no_part_in_the_gradient_norm_and_its_clipping(layers):
    whole, frozen = run(layers)[2], run(layers, freeze=("image",))[2]
    assert frozen["loss"] == pytest.approx(whole["loss"])
    assert frozen["l2_grads"] < 0.9 * whole["l2_grads"]
    limit = float(frozen["l2_grads"])  # just above it nothing is clipped
    free = changes(layers, freeze=("image",))
    clipped = changes(layers, freeze=("image",), grad_clip=1.0001 * limit)
    for name, change in free.items():
        np.testing.assert_allclose(clipped[name], change, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("microbatch", [None, 4])
def test_frozen_layers_give_the_same_update_scanned_and_unrolled(microbatch):
    keys = {"freeze": (f"{BLOCK}[02]/.*", "img/(cls|embedding/kernel)"), "steps": 2}
    unrolled = changes("unrolled", microbatch, **keys)
    scanned = changes("scanned", microbatch, **keys)
    for name, change in unrolled.items():
        np.testing.assert_allclose(scanned[name], change, atol=2e-5, err_msg=name)
        still = name.startswith((f"{BLOCK}0/", f"{BLOCK}2/", "img/cls", "img/embedding"))
        assert (not change.any()) == still, name
    assert moments(run("scanned", microbatch, **keys)[1]) == moments(
        run("unrolled", microbatch, **keys)[1]
    )


def test_freezing_by_a_factor_of_zero_equals_freeze():
    by_factor = run(lr_rules=(("img/.*", 0),))[1]
    by_name = run(freeze=("image",))[1]
    jax.tree.map(np.testing.assert_array_equal, by_factor.params, by_name.params)
    assert moments(by_factor) == moments(by_name)


def test_a_checkpoint_with_frozen_layers_goes_from_scanned_to_unrolled(tmp_path):
    keys = {"freeze": (f"{BLOCK}[02]/.*", "text")}
    _, state, _ = run("scanned", **keys)
    unrolled, _, _ = run("unrolled", **keys)
    first = checkpoint.Checkpoints(str(tmp_path))
    first.save(state, {})
    first.close()
    second = checkpoint.Checkpoints(str(tmp_path))
    restored = second.restore_last(unrolled).state
    second.close()
    for part in ("params", "opt_state"):
        expected = trees.flatten(layout.unroll(getattr(state, part)))
        for name, leaf in trees.flatten(getattr(restored, part)).items():
            np.testing.assert_array_equal(leaf, expected[name], err_msg=name)


@pytest.mark.parametrize("layers", LAYERS)
def test_a_frozen_image_tower_needs_less_memory_and_arithmetic(layers):
    costs = {}
    for freeze in (None, ("image",)):
        c = config(model__layers=layers, optim__freeze=freeze, input__batch_size=64)
        spec = tiny.make_spec(c, tiny.mesh(1))
        lowered = tiny.update(c, spec, tiny.mesh(1)).lower(spec.shapes, spec.batch)
        compiled = lowered.compile(compiler_options={"xla_backend_optimization_level": 0})
        memory = compiled.memory_analysis()
        state = sum(leaf.size for leaf in jax.tree.leaves(spec.shapes.opt_state))
        costs[freeze] = (compiled.cost_analysis()["flops"], memory.temp_size_in_bytes, state)
    flops, temporary, state = (
        frozen / whole for frozen, whole in zip(costs[("image",)], costs[None], strict=True)
    )
    image = sum(leaf.size for name, leaf in weights().items() if name.startswith("img/"))
    total = sum(leaf.size for leaf in weights().values())
    assert state == pytest.approx(1 - image / total, abs=0.01)
    assert temporary < 0.6
    if layers == "unrolled":  # XLA counts the body of a loop once
        assert flops < 0.6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freeze": ("image", "texts")}, "optim.freeze 'texts' matches no parameter"),
        ({"freeze": (".*",)}, "leaves no parameter to train"),
        ({"lr_rules": ((f"{BLOCK}9/.*", 0.5),)}, "optim.lr_rules .* matches no parameter"),
        ({"layer_decay": 0.0}, "layer_decay=0.0 must be above 0 and at most 1"),
        ({"layer_decay": 1.5}, "layer_decay=1.5 must be above 0 and at most 1"),
    ],
)
@pytest.mark.parametrize("layers", LAYERS)
def test_rules_that_cannot_be_applied_are_refused(layers, changes, message):
    c = config(model__layers=layers, **{f"optim__{key}": x for key, x in changes.items()})
    with pytest.raises(ConfigError, match=message):
        tiny.optimizer(c)


def test_merge_is_the_inverse_of_trainable():
    params = {"img": {"encoderblock": {"w": np.arange(12.0).reshape(6, 2)}}, "t": np.ones(1)}
    frozen = frozenset(f"img/encoderblock_{i}/w" for i in (0, 1, 4))
    split = partition.Partition(frozen)
    trainable = split.trainable(params)
    assert {name: leaf.shape for name, leaf in trees.flatten(trainable).items()} == {
        "img/encoderblock@2/w": (2, 2),
        "img/encoderblock@5/w": (1, 2),
        "t": (1,),
    }
    merged = split.merge(jax.tree.map(lambda leaf: leaf + 100, trainable), params)
    expected = params["img"]["encoderblock"]["w"] + 100 * np.array([0, 0, 1, 1, 0, 1])[:, None]
    np.testing.assert_array_equal(merged["img"]["encoderblock"]["w"], expected)

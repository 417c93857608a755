"""Rules by parameter: `lr_rules`, `freeze` and `layer_decay`, on unrolled and scanned layers."""

import functools
from dataclasses import dataclass
from typing import Any

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
FIRST_AND_LAST = (f"{BLOCK}[02]/.*", "img/(cls|embedding/kernel)")


@dataclass(frozen=True)
class Run:
    """Two steps of a tiny model: its spec, last state, metrics and costs.

    Attributes:
      changes: of each parameter, by unrolled name.
      norms: of the gradient in both steps.
      moments: first moments of the optimizer, by unrolled name.
      flops, temporary: of a step, and its memory in bytes.
    """

    spec: Any
    state: Any
    metrics: dict[str, float]
    changes: dict[str, np.ndarray]
    norms: list[float]
    moments: dict[str, np.ndarray]
    flops: float
    temporary: int


def config(layers="unrolled", **keys):
    c = tiny.config(warmup_steps=0, optim__schedule="constant", model__layers=layers)
    c.model.image.depth = DEPTH
    c.update_from_flattened_dict({key.replace("__", "."): value for key, value in keys.items()})
    return c


@functools.cache
def weights():
    """Parameters by name, with layers unrolled."""
    return trees.flatten(tiny.init(config())[1])


@functools.cache
def run(layers="unrolled", microbatch=None, **optim):
    keys = {f"optim__{key}": value for key, value in optim.items()}
    c = config(layers, microbatch=microbatch, **keys)
    spec = tiny.make_spec(c, tiny.mesh(1))
    lowered = tiny.update(c, spec, tiny.mesh(1)).lower(spec.shapes, spec.batch)
    update = lowered.compile(compiler_options={"xla_backend_optimization_level": 0})
    params = layout.like(spec.shapes.params, trees.unflatten(weights()))
    state, metrics, norms = spec.with_params(params, seed=0), {}, []
    for _ in range(2):
        state, metrics = update(state, tiny.batch(c))
        norms.append(float(metrics["l2_grads"]))
    state = jax.device_get(state)
    after = trees.flatten(layout.unroll(state.params))
    opt_state = trees.flatten(layout.unroll(state.opt_state))
    return Run(
        spec,
        state,
        jax.device_get(metrics),
        {name: np.asarray(after[name]) - leaf for name, leaf in weights().items()},
        norms,
        {name.partition("/mu/")[2]: x for name, x in opt_state.items() if "/mu/" in name},
        update.cost_analysis()["flops"],
        update.memory_analysis().temp_size_in_bytes,
    )


@pytest.mark.parametrize("layers", LAYERS)
def test_lr_rules_and_layer_decay_scale_the_update_of_single_layers(layers):
    keys = {"b1": 0.0, "b2": 0.0, "weight_decay": 0.0, "eps": 1e-12}  # updates are signs
    ruled = run(layers, lr_rules=((f"{BLOCK}1/.*", 0.5), ("t", 0.25)), layer_decay=0.5, **keys)
    exponents = {"img/head/kernel": 0, "img/encoder_norm/scale": 0, "t": 2}
    exponents |= {f"{BLOCK}{i}/MlpBlock_0/Dense_0/kernel": DEPTH - i for i in range(DEPTH)}
    exponents[f"{BLOCK}1/MlpBlock_0/Dense_0/kernel"] += 1
    exponents |= {"img/embedding/kernel": DEPTH + 1, "txt/Embed_0/embedding": 2}
    rate = ruled.metrics["lr"]
    for name, exponent in exponents.items():
        largest = np.abs(ruled.changes[name]).max()
        assert largest == pytest.approx(2 * rate * 0.5**exponent, rel=1e-3), name


@pytest.mark.parametrize(("layers", "microbatch"), [("unrolled", None), ("scanned", 4)])
def test_a_frozen_tower_stays_bit_equal_without_gradient_or_optimizer_state(layers, microbatch):
    whole, frozen = run(layers), run(layers, microbatch, freeze=("image",))
    for name, change in frozen.changes.items():
        assert change.any() != name.startswith("img/"), name
    assert set(frozen.moments) == {name for name in weights() if not name.startswith("img/")}
    assert frozen.norms[0] < 0.9 * whole.norms[0]


def test_frozen_parameters_do_not_count_for_grad_clip():
    frozen = run(freeze=("image",))
    limit = 1.001 * max(frozen.norms)
    assert limit < run().norms[0]
    clipped = run(freeze=("image",), grad_clip=limit)
    for name, moment in frozen.moments.items():
        np.testing.assert_allclose(
            clipped.moments[name], moment, rtol=1e-2, atol=1e-6, err_msg=name
        )


def test_frozen_layers_give_the_same_update_scanned_and_unrolled():
    unrolled, scanned = (run(layers, freeze=FIRST_AND_LAST) for layers in LAYERS)
    for name, change in unrolled.changes.items():
        if not name.endswith("key/bias"):  # its gradient is zero but for rounding errors
            np.testing.assert_allclose(scanned.changes[name], change, atol=1e-4, err_msg=name)
        frozen = name.startswith((f"{BLOCK}0/", f"{BLOCK}2/", "img/cls", "img/embedding"))
        assert change.any() != frozen, name
    assert set(scanned.moments) == set(unrolled.moments)


def test_a_factor_of_zero_freezes():
    by_factor = tiny.optimizer(config(optim__lr_rules=(("img/.*", 0),))).partition
    assert by_factor == tiny.optimizer(config(optim__freeze=("image",))).partition
    assert by_factor.frozen == {name for name in weights() if name.startswith("img/")}


def test_a_checkpoint_with_frozen_layers_goes_from_scanned_to_unrolled(tmp_path):
    unrolled, scanned = (run(layers, freeze=FIRST_AND_LAST) for layers in LAYERS)
    first = checkpoint.Checkpoints(str(tmp_path))
    first.save(scanned.state, {})
    first.close()
    second = checkpoint.Checkpoints(str(tmp_path))
    restored = second.restore_last(unrolled.spec).state
    second.close()
    for part in ("params", "opt_state"):
        expected = trees.flatten(layout.unroll(getattr(scanned.state, part)))
        for name, leaf in trees.flatten(getattr(restored, part)).items():
            np.testing.assert_array_equal(leaf, expected[name], err_msg=name)


def test_a_frozen_image_tower_needs_less_memory_and_arithmetic():
    whole, frozen = run(), run(freeze=("image",))
    image = sum(leaf.size for name, leaf in weights().items() if name.startswith("img/"))
    total = sum(leaf.size for leaf in weights().values())
    states = [
        sum(leaf.size for leaf in jax.tree.leaves(r.spec.shapes.opt_state)) for r in (frozen, whole)
    ]
    assert states[0] / states[1] == pytest.approx(1 - image / total, abs=0.01)
    assert frozen.temporary < 0.6 * whole.temporary
    assert frozen.flops < 0.6 * whole.flops


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
def test_rules_that_cannot_be_applied_are_refused(changes, message):
    keys = {f"optim__{key}": value for key, value in changes.items()}
    with pytest.raises(ConfigError, match=message):
        tiny.optimizer(config("scanned", **keys))


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

"""The optimizer: one optax chain from the `optim` section of a config.

Adam, decoupled weight decay and the learning rate, as in AdamW and the released
`optim/build_optax.py`; then factors of the learning rate by parameter. Frozen parameters are not
part of it, see `partition`.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from clipa_jax import trees
from clipa_jax.config.durations import Durations
from clipa_jax.config.settings import Settings, choice
from clipa_jax.errors import ConfigError
from clipa_jax.models import layout
from clipa_jax.training import partition
from clipa_jax.training.partition import Partition

# Which parameters decay. `kernels` is the released main branch; `all_but_small` the branch
# that trained G/14: everything but biases, norm scales, positions, the temperature and the
# bias of the logits.
DECAY = {
    "kernels": ((r".*/kernel", 1.0),),
    "all_but_small": ((r".*/(bias|scale|pos_embedding)|t|b", 0.0), (r".*", 1.0)),
    "none": (),
}
MOMENT_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
# Parameters before the layers of a tower, with the smallest rate of `layer_decay`; those behind the
# layers have the full rate. Groups: tower, layer.
EMBEDDINGS = re.compile(r"(img|txt)/(cls|embedding|pos_embedding|pre_norm|Embed_0)(/.*)?")
LAYER = re.compile(r"(img|txt)/Transformer/encoderblock_(\d+)/.*")
SCHEDULES = ("cosine", "linear", "constant")


@dataclass(frozen=True)
class Optimizer:
    """The optax chain, which is for the trainable part of the parameters, and that part."""

    tx: optax.GradientTransformation
    schedule: optax.Schedule  # learning rate by step
    peak_lr: float
    partition: Partition


def build(config: Settings, durations: Durations, params: Any) -> Optimizer:
    """The optimizer of the `optim` section that `clipa_jax/config/schema.py` declares.

    `params` is a tree of shapes. Raises `ConfigError` for an unknown value, or a rule that matches
    no parameter.
    """
    _check(config)
    peak = peak_lr(config.lr_per_256, durations.batch_size)
    schedule = make_schedule(choice(config, "schedule", SCHEDULES), peak, durations)
    factors = _factors(config, params)
    parts = partition.build(config.freeze or (), factors)
    decay_rules = DECAY[choice(config, "decay", DECAY)]
    mu_dtype = MOMENT_DTYPES[choice(config, "mu_dtype", MOMENT_DTYPES)]
    weight_decay = config.weight_decay
    chain = [
        optax.scale_by_adam(config.b1, config.b2, config.eps, mu_dtype=mu_dtype),
        optax.add_decayed_weights(weight_decay, mask=lambda p: _decayed(decay_rules, p)),
        _scale(_leaf_factors(factors, parts.trainable(params))),
        optax.scale_by_learning_rate(schedule),
    ]
    if config.grad_clip is not None:
        chain.insert(0, optax.clip_by_global_norm(config.grad_clip))
    return Optimizer(optax.chain(*chain), schedule, peak, parts)


def _check(config: Settings) -> None:
    """Raises `ConfigError` for a number that no optimizer can use, nan included."""
    clip = config.grad_clip
    for key, legal, expected in (
        ("b1", 0 <= config.b1 < 1, "at least 0 and below 1"),
        ("b2", 0 <= config.b2 < 1, "at least 0 and below 1"),
        ("eps", 0 < config.eps < math.inf, "above 0"),
        ("weight_decay", 0 <= config.weight_decay < math.inf, "0 or more"),
        ("lr_per_256", 0 <= config.lr_per_256 < math.inf, "0 or more"),
        ("grad_clip", clip is None or clip > 0, "above 0, or None"),
    ):
        if not legal:
            raise ConfigError(f"optim.{key}={config[key]} must be {expected}")


def peak_lr(lr_per_256: float, batch_size: int) -> float:
    """The largest learning rate, by the linear rule."""
    return lr_per_256 * batch_size / 256


def make_schedule(name: str, peak_lr: float, durations: Durations) -> optax.Schedule:
    """Linear warm-up from 0 to `peak_lr`, then to 0 at the end (or constant).

    The update of step i (from 0) uses the rate at i, so the very first changes nothing.
    """
    rest = max(durations.total_steps - durations.warmup_steps, 1)
    after = {
        "cosine": lambda: optax.cosine_decay_schedule(peak_lr, rest),
        "linear": lambda: optax.linear_schedule(peak_lr, 0.0, rest),
        "constant": lambda: optax.constant_schedule(peak_lr),
    }[name]()
    warmup = optax.linear_schedule(0.0, peak_lr, durations.warmup_steps)
    joined = optax.join_schedules([warmup, after], [durations.warmup_steps])
    # A rate whose dtype changed between steps would compile the step twice.
    return lambda step: jnp.asarray(joined(step), jnp.float32)


def _decayed(rules: trees.Rules[float], params: Any) -> Any:
    return trees.map_with_names(lambda name, _: trees.first(rules, name, 0.0) > 0, params)


def _factors(config: Settings, params: Any) -> dict[str, float]:
    """The factor of the learning rate of each parameter, by name with layers unrolled."""
    leaves = trees.flatten(params)
    names = [part for name, leaf in leaves.items() for part in layout.unrolled_names(name, leaf)]
    rules = trees.rules(config.lr_rules, float, "optim.lr_rules")
    factors = trees.match(rules, names, 1.0, what="optim.lr_rules")
    decay = config.layer_decay
    if decay is None:
        return factors
    if not 0 < decay <= 1:
        raise ConfigError(f"optim.layer_decay={decay} must be above 0 and at most 1, or None")
    return {name: factors[name] * decay**below for name, below in _layers_above(names).items()}


def _layers_above(names: Sequence[str]) -> dict[str, int]:
    """The exponent of `layer_decay` (as in BEiT): depth - i in layer i, depth + 1 before."""
    layers = [match.groups() for match in map(LAYER.fullmatch, names) if match]
    depth = {tower: 1 + max(int(i) for t, i in layers if t == tower) for tower, _ in layers}
    exponents = {}
    for name in names:
        layer, embedding = LAYER.fullmatch(name), EMBEDDINGS.fullmatch(name)
        if layer:
            exponents[name] = depth[layer[1]] - int(layer[2])
        else:
            exponents[name] = depth.get(embedding[1], 0) + 1 if embedding else 0
    return exponents


def _leaf_factors(factors: Mapping[str, float], params: Any) -> dict[str, Any]:
    """Factors other than 1 by leaf: scalars, or arrays (layers, 1, ...) of stacked layers."""
    by_leaf: dict[str, Any] = {}
    for name, leaf in trees.flatten(params).items():
        values = [factors[part] for part in layout.unrolled_names(name, leaf)]
        if len(set(values)) > 1:
            by_leaf[name] = np.reshape(values, (-1,) + (1,) * (len(leaf.shape) - 1))
        elif values[0] != 1:
            by_leaf[name] = values[0]
    return by_leaf


def _scale(factors: Mapping[str, Any]) -> optax.GradientTransformation:
    """Multiplies the update of each parameter by its factor."""

    def scale(name: str, leaf: jax.Array) -> jax.Array:
        return leaf * jnp.asarray(factors[name], leaf.dtype) if name in factors else leaf

    return optax.stateless(lambda updates, params: trees.map_with_names(scale, updates))


def updates_done(opt_state: Any, step: jax.Array) -> jax.Array:
    """The number of updates that an optimizer made: `step`, less those that were skipped.

    The schedule of the learning rate counts these.
    """
    counts = optax.tree_utils.tree_get_all_with_path(opt_state, "count")
    return counts[-1][1] if counts else step


def global_norm(tree: Any) -> jax.Array:
    """Euclidean length of all leaves together, float32."""
    return optax.tree.norm(jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree))

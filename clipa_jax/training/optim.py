"""The optimizer: one optax chain from the `optim` section of a config.

Adam, then decoupled weight decay, then the learning rate, as in AdamW and the
released `optim/build_optax.py`.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from clipa_jax import trees
from clipa_jax.config.durations import Durations
from clipa_jax.config.settings import Settings, choice
from clipa_jax.errors import ConfigError

# Which parameters decay. `kernels` is the released main branch; `all_but_small` the branch
# that trained G/14: everything but biases, norm scales, positions, the temperature and the
# bias of the logits.
DECAY = {
    "kernels": ((r".*/kernel", 1.0),),
    "all_but_small": ((r".*/(bias|scale|pos_embedding)|t|b", 0.0), (r".*", 1.0)),
    "none": (),
}
MOMENT_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
SCHEDULES = ("cosine", "linear", "constant")


@dataclass(frozen=True)
class Optimizer:
    """The optax chain and the learning rate as a function of the step."""

    tx: optax.GradientTransformation
    schedule: optax.Schedule
    peak_lr: float


def build(config: Settings, durations: Durations) -> Optimizer:
    """The optimizer of the `optim` section that `clipa_jax/config/schema.py` declares.

    Raises:
      ConfigError: an unknown value, or a rule that matches no parameter (when first used).
    """
    peak_lr = config.lr_per_256 * durations.batch_size / 256
    schedule = make_schedule(choice(config, "schedule", SCHEDULES), peak_lr, durations)
    decay_rules = DECAY[choice(config, "decay", DECAY)]
    lr_rules = tuple((pattern, float(factor)) for pattern, factor in config.lr_rules)
    mu_dtype = MOMENT_DTYPES[choice(config, "mu_dtype", MOMENT_DTYPES)]
    weight_decay = config.weight_decay
    chain = [
        optax.scale_by_adam(config.b1, config.b2, config.eps, mu_dtype=mu_dtype),
        optax.add_decayed_weights(weight_decay, mask=lambda p: _decayed(decay_rules, p)),
        _scale_by_rules(lr_rules),
        optax.scale_by_learning_rate(schedule),
    ]
    if config.grad_clip is not None:
        if config.grad_clip <= 0:
            raise ConfigError(f"optim.grad_clip={config.grad_clip} must be above 0, or None")
        chain.insert(0, optax.clip_by_global_norm(config.grad_clip))
    return Optimizer(optax.chain(*chain), schedule, peak_lr)


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


def _scale_by_rules(rules: trees.Rules[float]) -> optax.GradientTransformation:
    """Multiplies each update by the factor of the first rule that matches its parameter.

    A factor of 0 freezes the parameter: neither its gradient nor its decay moves it.
    """

    def init(params: Any) -> optax.EmptyState:
        trees.match(rules, trees.flatten(params), 1.0, what="optim.lr_rules")
        return optax.EmptyState()

    def update(updates: Any, state: optax.EmptyState, params: Any = None) -> Any:
        del params
        scale = lambda name, leaf: leaf * trees.first(rules, name, 1.0)  # noqa: E731
        return trees.map_with_names(scale, updates) if rules else updates, state

    return optax.GradientTransformation(init, update)


def updates_done(opt_state: Any, step: jax.Array) -> jax.Array:
    """How many updates an optimizer has made: `step`, less those that were skipped.

    The schedule of the learning rate counts these.
    """
    counts = optax.tree_utils.tree_get_all_with_path(opt_state, "count")
    return counts[-1][1] if counts else step


def global_norm(tree: Any) -> jax.Array:
    """Euclidean length of all leaves together, float32."""
    return optax.tree.norm(jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree))

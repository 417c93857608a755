"""Pure step functions over a mesh: the update, and the encoders that evaluation uses.

B global batch, R pixels a side, L text tokens, K kept patches, E embedding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding

from clipa_jax import sharding
from clipa_jax.config.batch import IMAGE
from clipa_jax.config.settings import Settings, choice
from clipa_jax.errors import ConfigError
from clipa_jax.models import CLIP, color_jitter
from clipa_jax.models.masks import MASKS, kept_patches
from clipa_jax.training import gradients, optim
from clipa_jax.training.state import StateSpec, TrainState

Batch = gradients.Batch
Update = Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]


@dataclass(frozen=True)
class Mask:
    """The patches that the image tower sees in training: name of a mask and the dropped share."""

    name: str
    ratio: float

    @classmethod
    def build(cls, config: Settings) -> "Mask":
        """From the `mask` section of a config."""
        name, ratio = choice(config, "name", MASKS), config.ratio
        if not 0 <= ratio < 1:
            raise ConfigError(f"mask.ratio={ratio} must be at least 0 and below 1")
        return cls(name, ratio)

    def __call__(self, rng: jax.Array, batch: int, patches: int) -> jax.Array | None:
        """int32 (B, K) patches to keep, or None for all."""
        return MASKS[self.name](rng, batch, patches, self.ratio) if self.ratio else None

    def image_tokens(self, model: CLIP, res: int) -> int:
        """The image tokens of a training sample: kept patches and the class token."""
        return kept_patches(self.name, model.img.config.patches(res), self.ratio) + 1


@dataclass(frozen=True)
class Encoders:
    """The two towers as compiled functions of (params, global batch).

    `image` takes uint8 (B, R, R, 3), `text` int32 (B, L); both give float32 (B, E) of unit length.
    B must divide by the shards of the first axis, which has the `batch_sharding`.
    """

    image: Callable[[Any, jax.Array], jax.Array]
    text: Callable[[Any, jax.Array], jax.Array]
    batch_sharding: NamedSharding


def make_encoders(model: CLIP, mesh: Mesh) -> Encoders:
    """The encoders of a model on a mesh; parameters may be laid out in any way."""
    split = sharding.batch_sharding(mesh)

    def image(params: Any, image_BRRC: jax.Array) -> Any:
        return model.apply({"params": params}, image_BRRC, method=model.encode_image)

    def text(params: Any, tokens_BL: jax.Array) -> Any:
        return model.apply({"params": params}, tokens_BL, method=model.encode_text)

    def compiled(tower: Callable[[Any, jax.Array], Any]) -> Callable[[Any, jax.Array], Any]:
        return jax.jit(sharding.on(mesh, tower), out_shardings=split)

    return Encoders(compiled(image), compiled(text), split)


def make_update(
    spec: StateSpec,
    mesh: Mesh,
    differentiate: gradients.Gradients,
    mask: Mask,
    schedule: optax.Schedule,
    *,
    on_nonfinite: str = "stop",
    compiler_options: dict[str, str | bool] | None = None,
) -> jax.stages.Wrapped:
    """The jitted training step: (state, batch) -> (state, metrics).

    The state's buffers are donated. Metrics are scalars of this step: those of the loss, `loss`,
    `lr`, `temperature` (the inverse one), `l2_grads`, `l2_params`, `l2_updates`.

    `differentiate` is from `gradients.build`, `on_nonfinite` a name in `ON_NONFINITE`; the metrics
    need the schedule; `compiler_options` are XLA's.
    """
    model, split = spec.model, sharding.batch_sharding(mesh)

    def update(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        rng = jax.random.fold_in(state.rng, state.step)
        size, res = batch[IMAGE].shape[:2]
        keep_BK = mask(rng, size, model.img.config.patches(res))
        (value, extra), grads = differentiate(state.params, color_jitter.apply(batch), keep_BK)
        trainable = spec.partition.trainable(state.params)
        updates, opt_state = spec.tx.update(grads, state.opt_state, trainable)
        params = spec.partition.merge(optax.apply_updates(trainable, updates), state.params)
        l2_grads = optim.global_norm(grads)
        finite = jnp.isfinite(value) & jnp.isfinite(l2_grads)
        new, old = (params, opt_state), (state.params, state.opt_state)
        params, opt_state = ON_NONFINITE[on_nonfinite](finite, new, old)
        metrics = {
            "loss": value,
            **extra,
            "lr": schedule(optim.updates_done(state.opt_state, state.step)),
            "l2_grads": l2_grads,
            "l2_params": optim.global_norm(params),
            "l2_updates": optim.global_norm(updates),
        }
        state = TrainState(state.step + 1, params, opt_state, state.rng)
        return state, jax.tree.map(lambda x: x.astype(jnp.float32), metrics)

    return jax.jit(
        sharding.on(mesh, update),
        in_shardings=(spec.shardings, dict.fromkeys(spec.batch, split)),
        out_shardings=(spec.shardings, sharding.replicated(mesh)),
        donate_argnums=0,
        compiler_options=compiler_options,
    )


def _take_new(finite: jax.Array, new: Any, old: Any) -> Any:
    """The update, finite or not: the recorder stops the run."""
    del finite, old
    return new


def _take_if_finite(finite: jax.Array, new: Any, old: Any) -> Any:
    """The update if it is finite, else the old state, bit for bit."""
    return jax.tree.map(lambda x, y: jnp.where(finite, x, y), new, old)


ON_NONFINITE = {"stop": _take_new, "skip": _take_if_finite}

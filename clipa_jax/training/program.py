"""The model, the state and the compiled step of a stage, without any data.

The trainer, the planner and the benchmark build the same program from the same config.
"""

from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import Mesh

from clipa_jax import losses, models, sharding, trees
from clipa_jax.config.batch import (
    CAPTION_HASH,
    COLOR,
    COLOR_NUMBERS,
    HASH_OP,
    IMAGE,
    JITTER_OP,
    TOKENS,
)
from clipa_jax.config.durations import Durations
from clipa_jax.config.settings import Settings, choice
from clipa_jax.errors import ConfigError
from clipa_jax.training import attention, gradients, optim, steps
from clipa_jax.training import state as states

BatchSpec = dict[str, jax.ShapeDtypeStruct]
_PREFIXES = (("tpu", "xla_tpu_"), ("tpu", "xla_jf_"), ("gpu", "xla_gpu_"), ("cpu", "xla_cpu_"))


@dataclass(frozen=True)
class Program:
    """A training step with its model and state."""

    mesh: Mesh  # the devices, possibly of an absent pod
    durations: Durations
    spec: states.StateSpec  # the state as shapes and shardings
    update: jax.stages.Wrapped  # the jitted step, see `steps.make_update`
    peak_lr: float
    max_skips: int  # consecutive updates that may be skipped because they are not finite
    image_tokens: int  # of a training sample, after masking, with the class token
    text_tokens: int

    @property
    def model(self) -> models.CLIP:
        return self.spec.model

    @property
    def num_params(self) -> int:
        return trees.count(self.spec.shapes.params)

    def trace(self) -> jax.stages.Traced:
        """The step, traced for its shapes and shardings; allocates nothing."""
        split = sharding.batch_sharding(self.mesh)
        batch = {
            key: jax.ShapeDtypeStruct(spec.shape, spec.dtype, sharding=split)
            for key, spec in self.spec.batch.items()
        }
        return self.update.trace(self.spec.shapes, batch)

    def compile(self) -> jax.stages.Compiled:
        """The step, compiled ahead of the first batch."""
        return self.trace().lower().compile()


def build(c: Settings, mesh: Mesh, durations: Durations, batch: BatchSpec) -> Program:
    """The program of a stage, from the whole config; uses no device memory, compiles nothing.

    `batch` has the shapes of the global batch, from the data or `batch_spec`. Raises `ConfigError`
    for an unknown value, or values that contradict each other.
    """
    model, mask = models.build(c.model), steps.Mask.build(c.mask)
    loss = losses.build(_loss(c, batch), mesh, choice(c.loss, "duplicates", losses.DUPLICATES))
    on_nonfinite = choice(c, "on_nonfinite", steps.ON_NONFINITE)
    params = states.param_shapes(model, batch[IMAGE].shape[1], batch[TOKENS].shape[1])
    optimizer = optim.build(c.optim, durations, params)
    spec = states.make_spec(model, optimizer.tx, batch, mesh, c.sharding, optimizer.partition)
    update = steps.make_update(
        spec,
        mesh,
        gradients.build(spec, mesh, loss, c.microbatch),
        mask,
        optimizer.schedule,
        on_nonfinite=on_nonfinite,
        compiler_options=compiler_options(c.compiler_options, mesh.devices.flat[0].platform),
    )
    image_tokens = mask.image_tokens(model, batch[IMAGE].shape[1])
    attention.check(model, mesh, image_tokens, batch[TOKENS].shape[1])
    return Program(
        mesh=mesh,
        durations=durations,
        spec=spec,
        update=update,
        peak_lr=optimizer.peak_lr,
        max_skips={"stop": 0, "skip": c.max_skips}[on_nonfinite],
        image_tokens=image_tokens,
        text_tokens=batch[TOKENS].shape[1],
    )


def compiler_options(text: str, platform: str) -> dict[str, str | bool]:
    """Options of XLA from the config, without those of other platforms by their prefix.

    Raises `ConfigError` unless they are written as "NAME=VALUE NAME=VALUE".
    """
    options: dict[str, str | bool] = {}
    for option in text.split():
        name, equals, value = option.removeprefix("--").partition("=")
        if not equals:
            raise ConfigError(f"compiler_options: expected NAME=VALUE, got {option!r}")
        owner = next((of for of, prefix in _PREFIXES if name.startswith(prefix)), platform)
        if owner == platform:
            options[name] = {"true": True, "false": False}.get(value, value)
    return options


def batch_spec(config: Settings) -> BatchSpec:
    """Shapes of the global batch of the `input` section, without reading data."""
    batch, res = config.batch_size, config.res
    spec = {
        IMAGE: jax.ShapeDtypeStruct((batch, res, res, 3), np.uint8),
        TOKENS: jax.ShapeDtypeStruct((batch, config.text_len), np.int32),
    }
    ops = {op.partition("(")[0].strip() for op in config.preprocess.split("|")}
    if JITTER_OP in ops:
        spec[COLOR] = jax.ShapeDtypeStruct((batch, COLOR_NUMBERS), np.float32)
    if HASH_OP in ops:
        spec[CAPTION_HASH] = jax.ShapeDtypeStruct((batch,), np.int32)
    return spec


def _loss(c: Settings, batch: BatchSpec) -> str:
    """The name of the loss, checked against the model and the data."""
    if batch[IMAGE].shape[0] < 2:
        raise ConfigError(
            "input.batch_size=1: the loss compares the samples of a batch, so it needs 2 or more"
        )
    name, bias = choice(c.loss, "name", losses.LOSSES), c.model.bias_init
    if (name in losses.NEEDS_BIAS) != (bias is not None):
        raise ConfigError(
            f"loss.name={name} with model.bias_init={bias}: the sigmoid losses need a bias of the "
            "logits, -10 in SigLIP (and temperature_init=10); the softmax losses need None"
        )
    if c.loss.duplicates == "mask" and CAPTION_HASH not in batch:
        raise ConfigError(
            "loss.duplicates=mask needs the hashes of captions, which input.preprocess does not "
            f"give; end it with |{HASH_OP}"
        )
    return name

"""Sizes, steps and arithmetic of a stage, read from its config; needs no devices."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from clipa_jax import models, trees
from clipa_jax.config.durations import Durations, resolve
from clipa_jax.config.settings import Settings
from clipa_jax.planning import chips, flops
from clipa_jax.training import program, state, steps
from clipa_jax.training.efficiency import Efficiency


@dataclass(frozen=True)
class Sizes:
    """The model of a stage and its tokens of a training sample, the class token included."""

    model: models.CLIP  # not initialized
    image_tokens: int
    text_tokens: int
    forward: flops.Forward


@dataclass(frozen=True)
class Workload(Sizes):
    """The work of one stage."""

    name: str
    config: ConfigDict
    durations: Durations
    num_params: int

    @property
    def step_flops(self) -> float:
        """The model's own FLOPs of one training step, on all chips together."""
        return self.forward.training * self.durations.batch_size

    @property
    def total_flops(self) -> float:
        """The model's own FLOPs of the whole stage."""
        return self.step_flops * self.durations.total_steps


def efficiency(c: Settings, mesh: Mesh, saved: Mapping[str, Any] | None = None) -> Efficiency:
    """The meter of a stage on its devices, of which the peak may be unknown."""
    chip = chips.of_kind(mesh.devices.flat[0].device_kind)
    peak = chip.peak if chip else math.nan
    most = mesh.size * peak / sizes(c).forward.training
    return Efficiency(saved, num_chips=mesh.size, max_samples_per_second=most)


def sizes(c: Settings) -> Sizes:
    """The sizes of a stage's config."""
    model, mask = models.build(c.model), steps.Mask.build(c.mask)
    shapes = program.batch_spec(c.input)
    tokens = mask.image_tokens(model, shapes["image"].shape[1]), shapes["tokens"].shape[1]
    return Sizes(model, *tokens, _forward(model, c.input, *tokens))


def read(config: ConfigDict, num_examples: int | None = None) -> Workload:
    """The workload from a stage's config; `ConfigError` for a value that does not fit others.

    `num_examples` of the data are needed where a duration is given in epochs.
    """
    c = Settings(config)
    durations = resolve(c, batch_size=c.input.batch_size, num_examples=num_examples)
    stage = sizes(c)
    shapes = state.param_shapes(_traceable(config), c.input.res, stage.text_tokens)
    return Workload(
        **vars(stage),
        name=c.name,
        config=config,
        durations=durations,
        num_params=trees.count(shapes),
    )


def of_program(name: str, config: ConfigDict, built: program.Program) -> Workload:
    """The workload of a stage whose program is built."""
    c, tokens = Settings(config).input, (built.image_tokens, built.text_tokens)
    return Workload(
        model=built.model,
        image_tokens=tokens[0],
        text_tokens=tokens[1],
        forward=_forward(built.model, c, *tokens),
        name=name,
        config=config,
        durations=built.durations,
        num_params=built.num_params,
    )


def _forward(model: models.CLIP, c: Settings, image_tokens: int, text_tokens: int) -> flops.Forward:
    return flops.forward(
        model, res=c.res, image_tokens=image_tokens, text_tokens=text_tokens, batch=c.batch_size
    )


def _traceable(config: ConfigDict) -> models.CLIP:
    """The model with an attention that any machine can trace; its parameters are the same."""
    config = config.copy_and_resolve_references()
    config.model.attention = "xla"
    return models.build(Settings(config.model))

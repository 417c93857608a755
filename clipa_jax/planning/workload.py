"""Sizes, steps and arithmetic of a stage, read from its config; needs no devices."""

from dataclasses import dataclass

from ml_collections import ConfigDict

from clipa_jax import models, trees
from clipa_jax.config.durations import Durations, resolve
from clipa_jax.config.settings import Settings
from clipa_jax.planning import flops
from clipa_jax.training import program, state, steps


@dataclass(frozen=True)
class Workload:
    """The work of one stage.

    Attributes:
      name: of the stage.
      config: of the stage.
      model: the two towers, not initialized.
      durations: of the stage, in steps.
      num_params: of the model.
      image_tokens, text_tokens: of a training sample, the class token included.
      forward: FLOPs of one sample.
    """

    name: str
    config: ConfigDict
    model: models.CLIP
    durations: Durations
    num_params: int
    image_tokens: int
    text_tokens: int
    forward: flops.Forward

    @property
    def step_flops(self) -> float:
        """The model's own FLOPs of one training step, on all chips together."""
        return self.forward.training * self.durations.batch_size

    @property
    def total_flops(self) -> float:
        """The model's own FLOPs of the whole stage."""
        return self.step_flops * self.durations.total_steps


@dataclass(frozen=True)
class Sizes:
    """The model of a stage and its tokens of a training sample, without durations."""

    model: models.CLIP
    image_tokens: int
    text_tokens: int
    forward: flops.Forward


def sizes(c: Settings) -> Sizes:
    """The sizes of a stage's config.

    Raises:
      ConfigError: a value that is unknown or does not fit the others.
    """
    model, mask = models.build(c.model), steps.Mask.build(c.mask)
    shapes = program.batch_spec(c.input)
    batch, res = shapes["image"].shape[:2]
    text_tokens = shapes["tokens"].shape[1]
    image_tokens = mask.image_tokens(model, res)
    forward = flops.forward(
        model, res=res, image_tokens=image_tokens, text_tokens=text_tokens, batch=batch
    )
    return Sizes(model, image_tokens, text_tokens, forward)


def read(config: ConfigDict) -> Workload:
    """The workload from a stage's config.

    Raises:
      ConfigError: a value that is unknown or does not fit the others.
    """
    c = Settings(config)
    durations = resolve(c, batch_size=c.input.batch_size, num_examples=None)
    stage = sizes(c)
    shapes = state.param_shapes(_traceable(config), c.input.res, stage.text_tokens)
    return Workload(
        name=c.name,
        config=config,
        model=stage.model,
        durations=durations,
        num_params=trees.count(shapes),
        image_tokens=stage.image_tokens,
        text_tokens=stage.text_tokens,
        forward=stage.forward,
    )


def of_program(name: str, config: ConfigDict, built: program.Program) -> Workload:
    """The workload of a stage whose program is built."""
    model, tokens = built.model, (built.image_tokens, built.text_tokens)
    forward = flops.forward(
        model,
        res=config.input.res,
        image_tokens=tokens[0],
        text_tokens=tokens[1],
        batch=built.durations.batch_size,
    )
    return Workload(name, config, model, built.durations, built.num_params, *tokens, forward)


def _traceable(config: ConfigDict) -> models.CLIP:
    """The model with an attention that any machine can trace; its parameters are the same."""
    config = config.copy_and_resolve_references()
    config.model.attention = "xla"
    return models.build(Settings(config.model))

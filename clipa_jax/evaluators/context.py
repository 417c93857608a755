"""What the trainer gives to every evaluator, and what it may ask of one."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from clipa_jax.data import pipeline
from clipa_jax.evaluators import embed
from clipa_jax.evaluators.class_embeddings import ClassEmbeddings
from clipa_jax.evaluators.outcome import Outcome


class HasParams(Protocol):
    """A train state, or anything else that holds a model's parameters."""

    @property
    def params(self) -> Any: ...


@dataclass(frozen=True)
class About:
    """What an evaluator evaluates: two scores are of one kind only where this is the same.

    Attributes:
      source, split: of the data.
      data_fingerprint: tells data apart that has the same name, see `identity.of_data`.
      preprocess: ops on the pictures.
      prompts: the texts that stand for the classes, in order; None where there are none.
      num_examples: of the split, if that is known.
    """

    source: str
    split: str
    data_fingerprint: str
    preprocess: str
    prompts: Sequence[str] | None = None
    num_examples: int | None = None


class Evaluator(Protocol):
    """Built cheaply before training, run many times during and after it."""

    def about(self) -> About:
        """What is evaluated, without evaluating it."""
        raise NotImplementedError

    def outcomes(self, state: HasParams, /) -> Iterator[tuple[str, Outcome]]:
        """Pairs (metric, outcome) for the parameters of `state`; the same on every process."""
        raise NotImplementedError

    def run(self, state: HasParams, /) -> Iterator[tuple[str, float]]:
        """Pairs (metric, value) of all outcomes."""
        for metric, outcome in self.outcomes(state):
            yield metric, outcome.value


@dataclass(frozen=True)
class Environment:
    """What evaluators share.

    Attributes:
      encoders: the two towers on the mesh.
      tokenize: texts -> int32 (N, L), as the model was trained.
      preprocess_image: ops that make a uint8 picture of the model's size, e.g.
        "decode|resize(64)".
      temperature_max: cap of the inverse temperature, as in the model; None for no cap.
    """

    encoders: embed.Encoders
    tokenize: Callable[[list[str]], np.ndarray]
    preprocess_image: str
    temperature_max: float | None = None

    @classmethod
    def of_model(cls, model: Any) -> "Environment":
        """What evaluators need of a model as `clipa_jax.load` gives it."""
        inputs = model.config.input
        return cls(
            encoders=model.encoders,
            tokenize=model.tokenize,
            preprocess_image=pipeline.fill(inputs.preprocess_eval, inputs),
            temperature_max=model.config.model.temperature_max,
        )

    @functools.cached_property
    def class_embeddings(self) -> ClassEmbeddings:
        """The text side of zero-shot classification, which evaluators share."""
        return ClassEmbeddings(self.encoders, self.tokenize)

    def scale(self, params: Any) -> float:
        """The inverse temperature, exp of the parameter `t` (1,), capped as in the model."""
        scale = float(np.exp(np.ravel(embed.gather(params["t"]))[0]))
        return scale if self.temperature_max is None else min(scale, self.temperature_max)

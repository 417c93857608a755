"""What the trainer gives to every evaluator, and what it may ask of one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from clipa_jax.evaluators import embed


class HasParams(Protocol):
    """A train state, or anything else that holds a model's parameters."""

    @property
    def params(self) -> Any: ...


class Evaluator(Protocol):
    """Built cheaply before training, run many times during and after it."""

    def run(self, state: HasParams, /) -> Iterator[tuple[str, float]]:
        """Pairs (metric, value) for the parameters of `state`; the same on every process."""


@dataclass(frozen=True)
class Environment:
    """What evaluators share.

    Attributes:
      encoders: the two towers on the mesh.
      tokenize: texts -> int32 (N, L), as the model was trained.
      preprocess_image: ops that make a uint8 picture of the model's size, e.g.
        "decode|resize(64)".
      temperature_max: cap of the inverse temperature, as in the model; None for no cap.
      cache_dir: where evaluators may keep what is costly to make; None for nowhere.
    """

    encoders: embed.Encoders
    tokenize: Callable[[list[str]], np.ndarray]
    preprocess_image: str
    temperature_max: float | None = None
    cache_dir: str | None = None

    def scale(self, params: Any) -> float:
        """The inverse temperature, exp of the parameter `t` (1,), capped as in the model."""
        scale = float(np.exp(np.ravel(embed.gather(params["t"]))[0]))
        return scale if self.temperature_max is None else min(scale, self.temperature_max)

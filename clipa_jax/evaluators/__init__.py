"""Evaluators: objects whose `outcomes(state)` yields (metric, outcome), chosen by name.

The keyword arguments of a class, but `env` and `name`, are the keys of its section in
`config.evals`.
"""

from collections.abc import Callable
from typing import Any

from clipa_jax.config.settings import Settings, choice
from clipa_jax.errors import ConfigError, DataError
from clipa_jax.evaluators.context import About, Environment, Evaluator, HasParams
from clipa_jax.evaluators.contrastive import Contrastive
from clipa_jax.evaluators.outcome import Outcome
from clipa_jax.evaluators.probes import LinearProbe
from clipa_jax.evaluators.retrieval import Retrieval
from clipa_jax.evaluators.zero_shot import ZeroShot

__all__ = ["EVALUATORS", "About", "Environment", "Evaluator", "HasParams", "Outcome", "build"]

EVALUATORS: dict[str, Callable[..., Any]] = {
    "contrastive": Contrastive,
    "linear_probe": LinearProbe,
    "retrieval": Retrieval,
    "zero_shot": ZeroShot,
}
OFF = "off"


def build(
    config: Settings, env: Environment, missing: dict[str, DataError] | None = None
) -> dict[str, Evaluator]:
    """The evaluators of `config.evals`, by their names there, in that order.

    Cheap: checks that the data is there, reads none of it.

    Args:
      config: sections with `type` and the keyword arguments of that evaluator; the
        type "off" switches it off.
      env: what all of them share.
      missing: takes the errors of evaluators whose data is not there, by name, instead of raising
        the first of them.

    Raises:
      ConfigError: an unknown type or key.
      DataError: data that is missing; says for which evaluator.
    """
    built: dict[str, Evaluator] = {}
    for name in config:
        section = config[name]
        if not isinstance(section, Settings):
            raise ConfigError(f"evals.{name} must be a section with `type`; came: {section!r}")
        kind = choice(section, "type", [*EVALUATORS, OFF])
        if kind == OFF:
            section.as_dict()  # switched off on purpose, not forgotten
            continue
        make = EVALUATORS[kind]
        try:
            built[name] = section.call(make, skip=("type",), env=env, name=name)
        except DataError as error:
            if missing is None:
                raise
            missing[name] = error
    return built

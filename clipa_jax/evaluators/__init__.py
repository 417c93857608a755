"""Evaluators by type: each has a `Config` of legal keys, and `outcomes(state)`."""

from typing import Any

from clipa_jax.config.settings import Settings, choice
from clipa_jax.errors import ConfigError, DataError
from clipa_jax.evaluators.context import EvalContext, Evaluator, HasParams
from clipa_jax.evaluators.contrastive import Contrastive
from clipa_jax.evaluators.dataset import EvalInfo
from clipa_jax.evaluators.outcome import Outcome
from clipa_jax.evaluators.probes import LinearProbe
from clipa_jax.evaluators.retrieval import Retrieval
from clipa_jax.evaluators.zero_shot import ZeroShot

__all__ = [
    "EVALUATORS",
    "EvalContext",
    "EvalInfo",
    "Evaluator",
    "HasParams",
    "Outcome",
    "build",
    "configs",
]

EVALUATORS: dict[str, Any] = {
    "contrastive": Contrastive,
    "linear_probe": LinearProbe,
    "retrieval": Retrieval,
    "zero_shot": ZeroShot,
}
OFF = "off"


def configs(sections: Settings) -> dict[str, tuple[str, Any]]:
    """The (type, keys) of each evaluator of `config.evals`, by name, without those of type "off".

    Raises:
      ConfigError: an unknown type or key.
    """
    checked: dict[str, tuple[str, Any]] = {}
    for name in sections:
        section = sections[name]
        if not isinstance(section, Settings):
            raise ConfigError(f"evals.{name} must be a section with `type`; came: {section!r}")
        kind = choice(section, "type", [*EVALUATORS, OFF])
        if kind == OFF:
            section.as_dict()  # its keys are of no known type
        else:
            checked[name] = kind, section.call(EVALUATORS[kind].Config, skip=("type",))
    return checked


def build(
    sections: Settings, context: EvalContext, missing: dict[str, DataError] | None = None
) -> dict[str, Evaluator]:
    """The evaluators of `config.evals`, by name and in that order.

    Cheap: checks that the data is there, reads none of it.

    Args:
      sections: `type` and the keys of that type's `Config`; type "off" disables an evaluator.
      context: shared by the evaluators.
      missing: receives the errors of evaluators whose data is missing, by name; None to raise
        the first of them.

    Raises:
      ConfigError: an unknown type or key.
      DataError: missing data; names the evaluator.
    """
    built: dict[str, Evaluator] = {}
    for name, (kind, config) in configs(sections).items():
        try:
            built[name] = EVALUATORS[kind](config, context, name)
        except DataError as error:
            if missing is None:
                raise
            missing[name] = error
    return built

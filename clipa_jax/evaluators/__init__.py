"""Evaluators by type.

A new one is a class with `Config`, a dataclass of its keys with defaults; a constructor (config,
context, name) that finds the data by `context.dataset` and reads none of it; `info()`, the data and
prompts; and `outcomes(state)`, which embeds by `context.embedded` and `context.texts` and yields
(metric, outcome), an outcome having a value per sample. Add it to `EVALUATORS`.
`contrastive.py` is the shortest, `context.py` the interface.
"""

import types
from collections.abc import Sequence
from typing import Any, get_args, get_origin, get_type_hints

from clipa_jax.config.settings import Settings, choice
from clipa_jax.errors import ConfigError, DataError, MissingData
from clipa_jax.evaluators.context import EvalContext, Evaluator, HasParams
from clipa_jax.evaluators.contrastive import Contrastive
from clipa_jax.evaluators.dataset import EvalInfo
from clipa_jax.evaluators.outcome import Outcome
from clipa_jax.evaluators.probes import LinearProbe
from clipa_jax.evaluators.retrieval import Retrieval
from clipa_jax.evaluators.zero_shot import ZeroShot
from clipa_jax.runtime import distributed

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
ALWAYS, END = "always", "end"  # when an evaluator of a stage runs


def configs(sections: Settings) -> dict[str, tuple[str, Any]]:
    """The (type, keys) of each evaluator of `config.evals`, by name, without those of type "off".

    An unknown type or key is a `ConfigError`, as is a value of another type than the default.
    """
    checked: dict[str, tuple[str, Any]] = {}
    for name in sections:
        section = sections[name]
        if not isinstance(section, Settings):
            raise ConfigError(f"evals.{name} must be a section with `type`; got: {section!r}")
        kind = choice(section, "type", [*EVALUATORS, OFF])
        if kind == OFF:
            section.as_dict()  # its keys are of no known type
            continue
        if "when" in section:
            choice(section, "when", [ALWAYS, END])
        config = section.call(EVALUATORS[kind].Config, skip=("type", "when"))
        for key, hint in get_type_hints(type(config)).items():
            value = getattr(config, key)
            if not _is(value, hint):
                raise ConfigError(f"evals.{name}.{key}={value!r}: expected {_words(hint)}")
        checked[name] = kind, config
    return checked


def _is(value: Any, hint: Any) -> bool:
    """Whether a value is of the type of an evaluator's key."""
    if isinstance(hint, types.UnionType):
        return any(_is(value, part) for part in hint.__args__)
    if get_origin(hint) is Sequence:
        return isinstance(value, list | tuple) and all(_is(item, *get_args(hint)) for item in value)
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return isinstance(value, hint)


def _words(hint: Any) -> str:
    """The types of a key as a message names them: "str, tuple of str or None"."""
    if isinstance(hint, types.UnionType):
        *parts, last = map(_words, hint.__args__)
        return f"{', '.join(parts)} or {last}"
    if get_origin(hint) is Sequence:
        return f"tuple of {_words(*get_args(hint))}"
    return "None" if hint is types.NoneType else hint.__name__


def at_end(sections: Settings) -> frozenset[str]:
    """The names of the evaluators that run at the end of a stage alone."""
    return frozenset(name for name in sections if sections[name].as_dict().get("when") == END)


def build(
    sections: Settings, context: EvalContext, missing: dict[str, DataError] | None = None
) -> dict[str, Evaluator]:
    """The evaluators of `config.evals`, by name and in that order; every process must call it.

    Cheap: checks that the data is there, reads none of it. `missing` receives the errors of
    evaluators whose data cannot be used here or on another process; without it the first of them is
    raised.
    """
    built: dict[str, Evaluator] = {}
    for name, (kind, config) in configs(sections).items():
        try:
            built[name] = EVALUATORS[kind](config, context, name)
        except DataError as error:
            if missing is None:
                raise
            missing[name] = error
    if missing is not None:
        everywhere = distributed.from_all(sorted(missing))
        for name in [name for name in built if any(name in names for names in everywhere)]:
            process = [name in names for names in everywhere].index(True)
            where = f"no data on process {process}"
            missing[name] = MissingData(f"evaluator {name}: {where}", dataset=name, looked=where)
            del built[name]
    return built

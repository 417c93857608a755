"""Evaluators from the command line: chosen by dataset, and single keys of one evaluator.

--config.evals=imagenet1k,mscoco_captions    --config.evals=none
--config.evals.mine.source=class_folders:/data/mine    --config.all.evals.objectnet.type=off
"""

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from clipa_jax.config import evals
from clipa_jax.errors import ConfigError, unknown

_ARGUMENT = re.compile(r"--?config\.(?:(\w+)\.)?evals(?:\.([\w-]+)\.(\w+))?=(.*)", re.DOTALL)
ALL, NONE = "all", "none"
DATASETS = (*evals.IMAGENET, *evals.VTAB, *evals.OTHERS, *evals.RETRIEVAL, *evals.ALIASES)


def matches(argument: str) -> bool:
    """Whether a command line argument is about evaluators."""
    return _ARGUMENT.fullmatch(argument) is not None


def apply(config: ConfigDict, arguments: Sequence[str]) -> None:
    """Applies arguments that `matches` to the config of a stage, a schedule or an evaluation.

    A list of datasets keeps or adds their evaluators, and drops all others. A key of an evaluator
    that does not exist adds it: of type zero_shot, unless it says otherwise.
    """
    stages = config.stages if "stages" in config else ()
    scopes = (ALL, *stages) if stages else ("",) if "evals" in config else ()
    lists: dict[str, str] = {}  # by stage, "" for a config without stages
    keys: dict[str, dict[str, dict[str, Any]]] = {}
    for argument in arguments:
        match = _ARGUMENT.fullmatch(argument)
        assert match
        stage, name, key, text = match[1] or "", match[2], match[3], match[4]
        if stage not in scopes:
            legal = [f"--config.{scope}.evals".replace("..", ".") for scope in scopes]
            hint = f"legal: {', '.join(legal)}" if legal else "it has no evaluators"
            raise ConfigError(f"{argument.partition('=')[0]} is not a key of this config; {hint}")
        if key is None:
            lists[stage] = text
        else:
            name = name.replace("-", "_")
            keys.setdefault(stage, {}).setdefault(name, {})[key] = _value(text)
    known = {name for stage in stages for name in config[stage].evals}
    with config.unlocked(), config.ignore_type():
        for stage in stages or ("",):
            section = config[stage] if stage else config
            for scope in (ALL, stage) if stage else ("",):
                if scope in lists:
                    section.evals = _chosen(section, lists[scope])
                for name, values in keys.get(scope, {}).items():
                    if scope != ALL or name in section.evals or name not in known:
                        _set(section, name, values)


def _chosen(c: ConfigDict, text: str) -> ConfigDict:
    """The evaluators of a list of datasets, with the settings of those that exist."""
    chosen = ConfigDict()
    for dataset in [] if text.lower() == NONE else [part.strip() for part in text.split(",")]:
        name = evals.name_of(evals.ALIASES.get(dataset, dataset))
        chosen[name] = c.evals[name] if name in c.evals else _new(c, dataset)
    return chosen


def _set(c: ConfigDict, name: str, values: Mapping[str, Any]) -> None:
    """Sets keys of an evaluator, which is added if there is none."""
    if name not in c.evals:
        own = {"source", "dataset"} & set(values)
        c.evals[name] = evals.section(c, "zero_shot", "") if own else _new(c, name)
    for key, value in values.items():
        c.evals[name][key] = value


def _new(c: ConfigDict, dataset: str) -> ConfigDict:
    """An evaluator of a dataset by name, or of a source."""
    name = dataset.replace("-", "_")
    if ":" in dataset:
        return evals.section(c, "zero_shot", dataset)
    if name not in DATASETS:
        raise ConfigError(unknown("evaluator or dataset", dataset, [*c.evals, *DATASETS, NONE]))
    name = evals.ALIASES.get(name, name)
    return evals.section(c, "retrieval" if name in evals.RETRIEVAL else "zero_shot", name)


def _value(text: str) -> Any:
    """A number, boolean, None or tuple as Python writes it; any other text is a string."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    if isinstance(value, list):
        return tuple(value)
    return value if isinstance(value, int | float | str | tuple) or value is None else text

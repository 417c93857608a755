"""The stages of a schedule, or of a config of one stage."""

from typing import Any

from ml_collections import ConfigDict

from clipa_jax.config import durations
from clipa_jax.errors import ConfigError


def split(config: ConfigDict) -> list[ConfigDict]:
    """The configs of the stages, in order; keys set in `config.all` apply to every stage."""
    if "stages" not in config:
        return [config]
    stages = []
    for name in config.stages:
        if name not in config:
            raise ConfigError(f"config.stages names {name!r}, which the config does not have")
        stage = config[name].copy_and_resolve_references()
        overrides = _given(config["all"])
        durations.override_siblings(stage, list(overrides))
        stage.update_from_flattened_dict(overrides)
        stages.append(stage)
    return stages


def _given(section: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """The leaves of `section` that are not None, by their full names."""
    leaves: dict[str, Any] = {}
    for key in section:
        value = section[key]
        if isinstance(value, ConfigDict):
            leaves |= _given(value, f"{prefix}{key}.")
        elif value is not None:
            leaves[f"{prefix}{key}"] = value
    return leaves

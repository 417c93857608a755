"""The command line: overrides of a config, `None`, `~`, repeated and unknown flags, help.

An override of a key that the config does not have is refused with the nearest legal key
(`_unknown_key`); those of evaluators are applied by `config/eval_overrides.py`.
"""

import collections
import inspect
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec
from absl import flags
from ml_collections import ConfigDict, config_flags

from clipa_jax.config import bundled, durations, eval_overrides, schema
from clipa_jax.errors import ConfigError, nearest, unknown
from clipa_jax.runtime import storage

_CONFIG = "--config."
# `~/` where a path can begin: a value, behind `webdataset:`, in a list or a mixture.
_HOME = re.compile(r"(?:(?<=[\s:=,*+'\"(\[])|^)~(?=/)")
_ONE_SLASH = re.compile(r"\b(gs|gcs|s3|https?):/(?!/)")
_TYPES = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "tuple": "a tuple as Python writes it, in quotes for the shell: '(1, \"a\")'",
}


def parse(argv: Sequence[str], *, needs_config: bool = True, positional: bool = False) -> list[str]:
    """Parses the flags of absl; returns the program's name and the arguments without a flag.

    Raises:
      ConfigError: a flag is repeated, unknown or has an illegal value, the config is missing, or
        there are arguments without a flag and not `positional`.
    """
    argv = [argv[0], *(_bundled(_HOME.sub(str(Path.home()), arg)) for arg in argv[1:])]
    _check_repeats(argv)
    _check_addresses(argv)
    about_evals = [arg for arg in argv[1:] if eval_overrides.matches(arg)]
    argv = [arg for arg in argv if arg not in about_evals]
    nones = [_key(arg) for arg in argv if _is_none(arg)]
    rest = _parse([arg for arg in argv if not _is_none(arg)])
    for flag in map(flags.FLAGS.__getitem__, flags.FLAGS):
        if flag.present and flag.value == "" and flag.default is None:
            raise ConfigError(f"--{flag.name} is empty")  # such as --workdir=$W without W
    if rest[1:] and not positional:
        raise ConfigError(
            f"unexpected argument {rest[1]!r}; flags are written --name=value, with quotes around "
            "values with spaces, braces or asterisks"
        )
    if "config" not in flags.FLAGS:
        return rest
    config = flags.FLAGS["config"].value
    if isinstance(config, ConfigDict):
        _apply(config, list(config_flags.get_override_values(flags.FLAGS["config"])), nones)
        eval_overrides.apply(config, about_evals)
        return rest
    if needs_config:
        raise ConfigError("--config=FILE.py is needed, e.g. configs/demo/schedule.py")
    return rest


def usage() -> str:
    """The description of the running command, which `cli.run` has set, and its flags."""
    text = [inspect.cleandoc(sys.modules["__main__"].__doc__ or "")]
    for module in flags.FLAGS.flags_by_module_dict():
        if module.startswith("clipa_jax") or module == sys.argv[0]:
            text.append(flags.FLAGS.module_help(module).strip())
    if "config" in flags.FLAGS:
        keys = inspect.getfile(schema)
        text.append(f"--config.KEY=VALUE overrides a key; every key with its meaning: {keys}")
    return "\n\n".join(text)


def _bundled(argument: str) -> str:
    """`--config=configs/...` of the installed package, if there is none in this folder."""
    flag, equals, value = argument.partition("=")
    if flag.lstrip("-") not in ("config", "stage") or not equals:
        return argument
    file, colon, variant = value.partition(":")
    path = bundled.find(file)
    if flag.lstrip("-") == "config" and not Path(path).is_file():
        options = [str(near) for near in Path(path).parent.glob("*.py")]
        raise ConfigError(f"no config file {path}; {nearest(path, options)}")
    return f"{flag}={path}{colon}{variant}"


def _apply(config: ConfigDict, overridden: list[str], nones: list[str]) -> None:
    """Completes a config after its overrides: units of durations, keys set to None, `~`."""
    stages = config.stages if "stages" in config else ()
    given = {*overridden, *nones}
    for key in sorted(given):
        section, _, rest = key.partition(".")
        if section in stages and f"all.{rest}" in given:
            raise ConfigError(
                f"both --config.{key} and --config.all.{rest} are given; give it for each stage "
                "or for all"
            )
    with config.unlocked():
        durations.override_siblings(config, overridden)
        for key in nones:
            section, _, rest = key.partition(".")
            for name in stages if stages and section == "all" else [section]:
                _set_none(config, ".".join(filter(None, (name, rest))))
        _expand_home(config)


def _allows_none(key: str) -> bool:
    """Whether None is legal for a key of a stage, or of a stage of a schedule."""
    return schema.allows_none(key) or schema.allows_none(key.partition(".")[2])


def _set_none(config: ConfigDict, key: str) -> None:
    error = _unknown_key(config, key)
    if error is not None:
        raise ConfigError(error)
    *parents, leaf = key.split(".")
    section = config
    for parent in parents:
        section = section[parent]
    if isinstance(section[leaf], ConfigDict):
        raise ConfigError(f"--config.{key} is a section, with the keys {', '.join(section[leaf])}")
    if section[leaf] is not None and not _allows_none(key):
        raise ConfigError(
            f"--config.{key} cannot be None; its value is {section[leaf]!r} unless it is set"
        )
    section[leaf] = None


def _expand_home(config: ConfigDict) -> None:
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            _expand_home(value)
        elif isinstance(value, str) and "~/" in value:
            config[key] = _HOME.sub(str(Path.home()), value)


def _is_none(argument: str) -> bool:
    return argument.startswith(_CONFIG) and argument.endswith("=None")


def _name(argument: str) -> str:
    return argument.lstrip("-").split("=")[0]


def _key(override: str) -> str:
    return _name(override).removeprefix("config.")


def _set_by(argument: str) -> str:
    """The name of the flag that an argument sets, which for `--noscores` is `scores`."""
    name = _name(argument)
    key = name.removeprefix("no")
    if key.startswith("config."):
        return key.replace("-", "_")
    return key if key in flags.FLAGS and flags.FLAGS[key].boolean else name


def _check_repeats(argv: Sequence[str]) -> None:
    """Raises `ConfigError` for a flag that is given twice and takes one value."""
    given = collections.defaultdict(list)
    for arg in argv[1:]:
        if arg.startswith("-"):
            given[_set_by(arg)].append(arg)
    for name, values in given.items():
        flag = flags.FLAGS[name] if name in flags.FLAGS else None  # noqa: SIM401, no mapping
        known = flag is not None or name.startswith("config.")
        if len(values) > 1 and known and not isinstance(flag, flags.MultiFlag):
            raise ConfigError(
                f"--{name} is given {len(values):,} times: {values[0]} ... {values[-1]}. Give it "
                "once; a shell expands {} and * unless the argument is in single quotes"
            )


def _check_addresses(argv: Sequence[str]) -> None:
    """Raises `ConfigError` for an address with one slash, or with a scheme that nothing reads."""
    for argument in argv[1:]:
        one_slash = _ONE_SLASH.search(argument)
        if one_slash:
            raise ConfigError(f"{argument}: an address begins with {one_slash[1]}://")
        scheme = storage.scheme(argument.partition("=")[2])
        if scheme and scheme not in (known := fsspec.available_protocols()):
            raise ConfigError(f"{argument}: {unknown('scheme', scheme, known)}")


def _parse(argv: Sequence[str]) -> list[str]:
    """`flags.FLAGS(argv)`, with errors that name the nearest legal key of the config."""
    try:
        return _flags(argv)
    except (AttributeError, KeyError) as error:
        raise ConfigError(_unknown_override(argv) or f"{error}") from None
    except flags.IllegalFlagValueError as error:
        missing = re.match(r"flag --(\w+)=None: ", str(error))
        if missing:
            raise ConfigError(
                f"--{missing[1]}= is needed: {flags.FLAGS[missing[1]].help}"
            ) from None
        # A config file raised an error of its own: its message instead of absl's traceback.
        wrapped = error.__context__
        refusal = wrapped.__context__ if wrapped else None
        if not isinstance(refusal, ValueError) or "parsing config file" not in str(wrapped):
            raise ConfigError(_wrong_value(argv, str(error)) or f"{error}") from None
        raise ConfigError(f"--config: {refusal}") from None
    except (OSError, ImportError, ValueError, TypeError, IndexError) as error:
        raise ConfigError(f"--config: {error}") from None


def _flags(argv: Sequence[str], **options: Any) -> list[str]:
    """`flags.FLAGS(argv)`, with `argv` also in `sys.argv`, where config_flags reads overrides."""
    given, sys.argv = sys.argv, list(argv)
    try:
        return flags.FLAGS(argv, **options)
    finally:
        sys.argv = given


def _config(argv: Sequence[str]) -> Any:
    """The config before its overrides are applied."""
    without = [argv[0], *(arg for arg in argv[1:] if not arg.startswith(_CONFIG))]
    _flags(without, known_only=True)
    return flags.FLAGS["config"].value


def _wrong_value(argv: Sequence[str], error: str) -> str | None:
    """The error message for an override with a value of another type."""
    for argument in argv:
        name, _, value = argument.lstrip("-").partition("=")
        if name.startswith("config.") and error.startswith(f"flag --{name}="):
            kind = flags.FLAGS[name].flag_type().removeprefix("multi ")
            options = _TYPES.get(kind, f"of type {kind}")
            if _allows_none(name.removeprefix("config.")):
                options += ", or None"
            return f"--{name}: got {value!r}, expected {options}"
    return None


def _unknown_override(argv: Sequence[str]) -> str | None:
    """The error message for the first `--config.KEY` that the config does not have."""
    config = _config(argv)
    keys = [_key(arg) for arg in argv if arg.startswith(_CONFIG)]
    return next(filter(None, (_unknown_key(config, key) for key in keys)), None)


def _unknown_key(config: ConfigDict, key: str) -> str | None:
    section, parents = config, "config"
    for part in key.split("."):
        if not isinstance(section, ConfigDict) or part not in section:
            options = section.keys() if isinstance(section, ConfigDict) else ()
            return unknown(f"key in {parents}", part, options)
        section, parents = section[part], f"{parents}.{part}"
    return None

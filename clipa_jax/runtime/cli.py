"""Command lines: a config with overrides, errors as one sentence, few log lines."""

import logging as std_logging
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from clipa_jax.config import durations
from clipa_jax.config.settings import Settings
from clipa_jax.errors import ConfigError, UserError, unknown
from clipa_jax.runtime import distributed
from clipa_jax.runtime import quiet as noise


def define_config() -> flags.FlagHolder:
    """Defines `--config=FILE.py[:ARGUMENTS]`, whose keys are overridden by `--config.KEY=`."""
    return config_flags.DEFINE_config_file(
        "config", None, "The config file, for example configs/demo/schedule.py.", lock_config=True
    )


def run(main: Callable[[list[str]], int | None], *, needs_config: bool = True) -> None:
    """Parses the flags and runs `main`; a `UserError` is printed and gives exit status 1.

    Args:
      main: the program.
      needs_config: whether `--config`, if defined, is required.
    """
    quiet()

    def guarded(argv: list[str]) -> int | None:
        try:
            return main(argv)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)  # noqa: T201, output of the command
            distributed.leave(1)
            return 1
        except Exception as error:
            if not jax.distributed.is_initialized():
                raise
            _print_process_error(error)
            distributed.leave(1)
            return 1

    def parse(argv: list[str]) -> list[str]:
        try:
            return _parse(argv, needs_config)
        except (UserError, flags.Error) as error:
            print(f"error: {error}", file=sys.stderr)  # noqa: T201
            raise SystemExit(1) from None

    app.run(guarded, flags_parser=parse)


def _print_process_error(error: Exception) -> None:
    """Prints an error that is not of the input before one of several processes ends."""
    traceback.print_exception(error)
    if isinstance(error, jax.errors.JaxRuntimeError):
        text = (
            "error: this process stops, because another one is gone or because of the error above. "
            "Run the same command again on all processes to resume from the last checkpoint"
        )
        print(text, file=sys.stderr)  # noqa: T201


def say(text: str) -> None:
    """Prints the result of a command."""
    print(text)  # noqa: T201


def quiet() -> None:
    """Shows the log lines of this package, without prefix, and hides those of libraries."""
    warnings.filterwarnings("ignore")
    noise.libtpu()
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    handler = logging.get_absl_handler()
    handler.setFormatter(std_logging.Formatter("%(message)s"))
    handler.addFilter(_is_for_users)


def _is_for_users(record: std_logging.LogRecord) -> bool:
    """Whether a log line is of this package, or an error that a library does not also raise."""
    package = str(Path(__file__).parents[1])
    if record.pathname.startswith(package):
        return True
    return record.levelno >= std_logging.ERROR and "orbax" not in Path(record.pathname).parts


def start_jax(config: ConfigDict, root: Path | None = None) -> None:
    """Sets up devices, other processes and the compilation cache, before JAX uses devices.

    Args:
      config: of a stage; `cpu_devices`, `distributed` and `compilation_cache` are read.
      root: the workdir, which contains the compilation cache; None for no cache.

    Raises:
      ConfigError: `cpu_devices` is not a positive number, or `distributed` contradicts itself.
    """
    count = config.cpu_devices
    if count is not None and count < 1:
        raise ConfigError(f"config.cpu_devices={count} must be 1 or more")
    if count is not None:
        jax.config.update("jax_num_cpu_devices", count)
    Settings(config.distributed, "config.distributed").call(distributed.join)
    cache = str(root / "cache" / "xla") if root else "none"
    _set_cache(cache if config.compilation_cache == "workdir" else config.compilation_cache)


def _set_cache(folder: str) -> None:
    """Caches compiled programs in a folder, where that is safe; "none" for no cache.

    It is not safe on several CPU devices: XLA orders the collectives of a CPU program when it
    compiles it, and a cached program loses this order (jax 0.10.2), so that two devices wait in
    different collectives and the process is aborted after 40 s. See docs/surviving.md.
    """
    if folder == "none" or (jax.default_backend() == "cpu" and jax.device_count() > 1):
        return
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _parse(argv: list[str], needs_config: bool) -> list[str]:
    """`flags.FLAGS(argv)`, with errors that name the nearest legal key of the config."""
    try:
        rest = flags.FLAGS(argv)
    except (AttributeError, KeyError) as error:
        raise ConfigError(_unknown_override(argv) or f"{error}") from None
    except flags.IllegalFlagValueError as error:
        # A config file raised an error of its own: its message instead of absl's traceback.
        wrapped = error.__context__
        refusal = wrapped.__context__ if wrapped else None
        if not isinstance(refusal, ValueError) or "parsing config file" not in str(wrapped):
            raise
        raise ConfigError(f"--config: {refusal}") from None
    except (OSError, ImportError, ValueError, TypeError, IndexError) as error:
        raise ConfigError(f"--config: {error}") from None
    if "config" in flags.FLAGS:
        config = flags.FLAGS["config"].value
        if not isinstance(config, ConfigDict):
            given = next((a for a in argv if a.startswith("--config=")), None)
            if given is None and not needs_config:
                return rest
            if given is None:
                raise ConfigError("--config=FILE.py is needed, e.g. configs/demo/schedule.py")
            raise ConfigError(f"{given} is not the path of a config file that exists")
        overridden = list(config_flags.get_override_values(flags.FLAGS["config"]))
        with config.unlocked():
            durations.override_siblings(config, overridden)
    return rest


def _unknown_override(argv: list[str]) -> str | None:
    """The error message for the first `--config.KEY` that the config does not have."""
    keys = [arg.split("=")[0].removeprefix("--config.") for arg in argv if "--config." in arg]
    without = [argv[0], *(arg for arg in argv[1:] if not arg.startswith("--config."))]
    given, sys.argv = sys.argv, without  # where config_flags looks for overrides
    try:
        flags.FLAGS(without, known_only=True)
    finally:
        sys.argv = given
    config = flags.FLAGS["config"].value
    for key in keys:
        section, parents = config, "config"
        for part in key.split("."):
            if not isinstance(section, ConfigDict) or part not in section:
                options = section.keys() if isinstance(section, ConfigDict) else ()
                return unknown(f"key in {parents}", part, options)
            section, parents = section[part], f"{parents}.{part}"
    return None

"""Command lines: a config with overrides, errors as one sentence, a calm terminal."""

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
    """Parses the flags and runs `main`; a `UserError` becomes a sentence and status 1.

    Args:
      main: the program.
      needs_config: whether `--config`, where it is defined, has to be given.
    """
    quiet()

    def guarded(argv: list[str]) -> int | None:
        try:
            return main(argv)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)  # noqa: T201, the command line speaks
            distributed.leave(1)
            return 1
        except Exception as error:
            if not jax.distributed.is_initialized():
                raise
            _say_of_several(error)
            distributed.leave(1)
            return 1

    def parse(argv: list[str]) -> list[str]:
        try:
            return _parse(argv, needs_config)
        except (UserError, flags.Error) as error:
            print(f"error: {error}", file=sys.stderr)  # noqa: T201
            raise SystemExit(1) from None

    app.run(guarded, flags_parser=parse)


def _say_of_several(error: Exception) -> None:
    """What one of several processes says before it leaves, where no input is to blame."""
    traceback.print_exception(error)
    if isinstance(error, jax.errors.JaxRuntimeError):
        text = (
            "error: this process stops, because another one is gone or because of what stands "
            "above. Run the same command again on all to go on from the last checkpoint"
        )
        print(text, file=sys.stderr)  # noqa: T201


def say(text: str) -> None:
    """Prints what a command line was asked for."""
    print(text)  # noqa: T201


def quiet() -> None:
    """Turns the chatter of the libraries down; messages of ours come through, plain."""
    warnings.filterwarnings("ignore")
    noise.libtpu()
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    handler = logging.get_absl_handler()
    handler.setFormatter(std_logging.Formatter("%(message)s"))
    handler.addFilter(_is_for_users)


def _is_for_users(record: std_logging.LogRecord) -> bool:
    """Whether a line of the log is ours, or an error of a library that does not raise it too."""
    ours = str(Path(__file__).parents[1])
    if record.pathname.startswith(ours):
        return True
    return record.levelno >= std_logging.ERROR and "orbax" not in Path(record.pathname).parts


def start_jax(config: ConfigDict, root: Path | None = None) -> None:
    """Chooses the devices, and meets other processes, before JAX first looks at the devices.

    Args:
      config: of a stage; `cpu_devices`, `distributed` and `compilation_cache` are read.
      root: the workdir, where compiled programs are kept; None for nowhere.

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
    _keep_compiled(cache if config.compilation_cache == "workdir" else config.compilation_cache)


def _keep_compiled(folder: str) -> None:
    """Keeps compiled programs in a folder, where that is safe; "none" for nowhere.

    It is not on several CPU devices. XLA orders the collectives of a CPU program when it compiles
    it, and has forgotten the order when it reads the program back (jax 0.10.2): two devices wait
    for each other in different ones, and after 40 s the process is aborted. docs/surviving.md
    says how that was seen.
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
        # A config file that refuses its argument: its own sentence, not absl's traceback.
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
    """The sentence for the first `--config.KEY` whose key the config does not have."""
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

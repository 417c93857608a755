"""Command lines: a config with overrides, errors as one sentence, few log lines."""

import contextlib
import inspect
import logging as std_logging
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from clipa_jax.config.settings import Settings
from clipa_jax.errors import ConfigError, UserError, install
from clipa_jax.runtime import arguments, distributed, storage
from clipa_jax.runtime import quiet as noise
from clipa_jax.runtime.files import PathLike


def define_config() -> flags.FlagHolder:
    """Defines `--config=FILE.py[:ARGUMENTS]`, whose keys are overridden by `--config.KEY=`."""
    return config_flags.DEFINE_config_file(
        "config", None, "The config file, for example configs/demo/schedule.py.", lock_config=True
    )


@contextlib.contextmanager
def needs(extra: str) -> Iterator[None]:
    """Turns a failing import of a package of an extra (`data`, `torch`) into a `UserError`."""
    try:
        yield
    except ModuleNotFoundError as missing:
        raise UserError(f"{missing.name} is not installed: {install(extra)}") from None


def run(
    main: Callable[[list[str]], int | None],
    *,
    doc: str | None = None,
    needs_config: bool = True,
    positional: bool = False,
) -> None:
    """Parses the flags and runs `main`; a `UserError` is printed and gives exit status 1.

    `--help` shows `doc`, by default that of the module of `main`. `--config`, if defined, is
    required where the program `needs_config`; arguments without a flag are refused unless they may
    be `positional`.
    """
    quiet()
    module = inspect.getmodule(main)
    if module is not None:
        sys.modules["__main__"].__doc__ = doc or module.__doc__

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
        if {"--help", "-help", "-h", "--helpshort"} & set(argv[1:]):
            say(arguments.usage())
            raise SystemExit(0)
        try:
            return arguments.parse(argv, needs_config=needs_config, positional=positional)
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


def writes_to_disk(flag: flags.FlagHolder) -> None:
    """Refuses an address, such as gs://BUCKET/FILE, as the path that a command writes to."""
    _refuse_address(
        flag, "this command writes to a disk; give a path there, then copy it: {copy} PATH {path}"
    )


def reads_from_disk(flag: flags.FlagHolder) -> None:
    """Refuses an address as the path that a command reads from."""
    _refuse_address(
        flag, "this command reads from a disk; copy it to a path there first: {copy} {path} PATH"
    )


def _refuse_address(flag: flags.FlagHolder, sentence: str) -> None:
    def check(path: str | None) -> bool:
        kind = storage.scheme(path or "")
        if kind:
            copy = "gcloud storage cp -r" if kind in ("gs", "gcs") else "rclone copy"
            raise flags.ValidationError(sentence.format(copy=copy, path=path))
        return True

    flags.register_validator(flag, check)


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
    raising = {"orbax", "gcsfs"} & {*Path(record.pathname).parts}
    return record.levelno >= std_logging.ERROR and not raising


def start_jax(config: ConfigDict, cache: PathLike | None = None) -> None:
    """Sets up devices, other processes and the compilation cache, before JAX uses devices.

    Reads `cpu_devices`, `distributed` and `compilation_cache` of a stage, whose "workdir" stands
    for `cache`; None for no cache. Raises `ConfigError` if they are wrong or contradict each other.
    """
    count = config.cpu_devices
    if count is not None and count < 1:
        raise ConfigError(f"config.cpu_devices={count} must be 1 or more")
    if count is not None:
        jax.config.update("jax_num_cpu_devices", count)
    Settings(config.distributed, "config.distributed").call(distributed.join)
    in_workdir = config.compilation_cache == "workdir"
    _set_cache(str(cache or "none") if in_workdir else config.compilation_cache)


def _set_cache(folder: str) -> None:
    """Caches compiled programs in a folder, where that is safe; "none" for no cache.

    It is not safe on several CPU devices: XLA orders the collectives of a CPU program when it
    compiles it, and a cached program loses this order, so that two devices wait in different
    collectives and the process is aborted after 40 s (seen with JAX 0.10.2, later versions were
    not tested). See docs/surviving.md.
    """
    if folder == "none" or (jax.default_backend() == "cpu" and jax.device_count() > 1):
        return
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

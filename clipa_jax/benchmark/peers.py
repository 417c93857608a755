"""Steps of other code, in a process of its own.

In one process two libraries would take turns with one heap and one set of cores that their idle
threads do not leave at once.
"""

import importlib
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import jax
from ml_collections import ConfigDict

from clipa_jax.errors import ConfigError, install, unknown
from clipa_jax.planning import workload

PEERS = ("open_clip", "open_clip_compiled")

_steps: list[Callable[[], None]] = []  # of the peer's process


def start(name: str, config: ConfigDict) -> Callable[[], None]:
    """The step of a peer for a stage, which returns when the device is ready.

    Raises `ConfigError` for an unknown peer, or one that is not installed, and `UserError` for a
    model that it does not have.
    """
    if name not in PEERS:
        raise ConfigError(unknown("--peer", name, PEERS))
    process = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    try:
        process.submit(_build, name, config).result()
    except ModuleNotFoundError as error:
        raise ConfigError(f"--peer={name} needs {error.name}: {install('torch')}") from None
    return lambda: process.submit(_run).result()


def _build(name: str, config: ConfigDict) -> None:
    jax.config.update("jax_platforms", "cpu")  # the accelerator's memory is for the peer
    peer = importlib.import_module("clipa_jax.benchmark.open_clip_step")
    work = workload.read(config)
    _steps.append(peer.build(work, compiled=name == "open_clip_compiled"))


def _run() -> None:
    _steps[-1]()

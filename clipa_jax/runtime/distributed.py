"""Several processes as one run: start, exchange of values, exit.

JAX runs the same program in every process. This module has what differs between them: which one
writes, values that only one process knows, and what happens when a process is gone.
"""

import json
import logging as std_logging
import os
import random
import signal
import sys
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from clipa_jax.errors import ConfigError

T = TypeVar("T")
AUTO, ALONE = "auto", "none"


def join(
    coordinator: str = AUTO,
    processes: int | None = None,
    process: int | None = None,
    start_timeout: int = 300,
    peer_timeout: int = 60,
) -> None:
    """Connects to the other processes of the run, if any; called before JAX is used.

    `coordinator` "auto" lets JAX detect a cluster (SLURM, a TPU slice, GKE, Open MPI), and is a
    single process without one; "none" is a single process; else it is host:port of process 0, which
    needs the number of processes and the index of this one. Timeouts are in seconds: to wait for
    the others at the start, and after which a process that died ends the others. Raises
    `ConfigError` if arguments contradict each other.
    """
    if coordinator in (AUTO, ALONE):
        if processes is not None or process is not None:
            raise ConfigError(
                f"distributed.processes={processes} and distributed.process={process} need "
                "distributed.coordinator=HOST:PORT of process 0 too"
            )
        cluster: dict[str, Any] = {}
    else:
        cluster = _given(coordinator, processes, process)
    if coordinator == ALONE:
        return
    # JAX's preemption service would hide SIGTERM from Python; see interrupt.py.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            **cluster,
            initialization_timeout=start_timeout,
            heartbeat_timeout_seconds=peer_timeout,
        )
    except ValueError as error:
        # JAX found no cluster: the address is the first argument that it misses.
        if cluster or "coordinator_address" not in str(error):
            raise
        return
    # JAX aborts a process whose peer died, with a message; absl would add a stack trace.
    signal.signal(signal.SIGABRT, signal.SIG_DFL)
    handler = logging.get_absl_handler()
    handler.setFormatter(std_logging.Formatter(f"[process {jax.process_index()}] %(message)s"))
    if not first():
        logging.set_verbosity(logging.WARNING)


def _given(coordinator: str, processes: int | None, process: int | None) -> dict[str, Any]:
    """Arguments of `jax.distributed.initialize` for processes that were started manually."""
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(
            f"distributed.coordinator={coordinator!r} must be auto, none or HOST:PORT"
        )
    if processes is None or process is None or not 0 <= process < processes:
        raise ConfigError(
            f"distributed.process={process} of distributed.processes={processes}: with "
            "distributed.coordinator both are needed, the first process is 0"
        )
    return {
        "coordinator_address": coordinator,
        "num_processes": processes,
        "process_id": process,
        "cluster_detection_method": "deactivate",
    }


def first() -> bool:
    """Whether this is process 0, which alone writes logs and results."""
    return jax.process_index() == 0


def several() -> bool:
    """Whether the run has more than one process."""
    return jax.process_count() > 1


def from_first(value: Any) -> Any:
    """The value of process 0, on every process; any JSON value."""
    if not several():
        return value
    data = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
    padded = np.zeros(size, np.uint8)
    padded[: min(size, len(data))] = data[:size]
    return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(padded)).tobytes())


def from_all(value: Any) -> list[Any]:
    """The values of all processes, in their order, on every process; any JSON value."""
    if not several():
        return [value]
    data = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = np.ravel(multihost_utils.process_allgather(np.int32(len(data))))
    padded = np.pad(data, (0, int(sizes.max()) - len(data)))
    everyone = multihost_utils.process_allgather(padded)
    return [json.loads(row[:size].tobytes()) for row, size in zip(everyone, sizes, strict=True)]


def own_part_first(items: Sequence[T]) -> list[T]:
    """The items in an order of this process's own: an equal part that is no other's first, then the
    rest at random. For work that all processes need and that each does unless another has."""
    if not jax.distributed.is_initialized():
        return list(items)
    index, count = jax.process_index(), jax.process_count()
    begin, end = (len(items) * number // count for number in (index, index + 1))
    rest = [*items[:begin], *items[end:]]
    random.Random(index).shuffle(rest)
    return [*items[begin:end], *rest]


class Flag:
    """The largest number of all processes, equal on all of them at the same call.

    Each `read` starts a maximum over all devices, after the work already queued, and returns the
    result of the call before. So all processes agree, and none waits for more than one step.

    CPU processes may run two independent programs in different orders and deadlock, so there
    `read` waits for its own program.
    """

    def __init__(self) -> None:
        self._inputs: dict[int, jax.Array] = {}
        self._pending: jax.Array | None = None

    def read(self, mine: int, after: Any = None) -> int:
        """The largest number of the previous call, 0 at the first; a single process returns `mine`.

        `mine` is at least 0; `after` are arrays of the program that was started last, if it may
        still run.
        """
        if not several():
            return mine
        if mine not in self._inputs:
            mesh = Mesh(np.array(jax.devices()), ("all",))
            local = np.full(jax.local_device_count(), mine, np.int32)
            self._inputs[mine] = jax.make_array_from_process_local_data(
                NamedSharding(mesh, P("all")), local
            )
        waits = jax.default_backend() == "cpu"
        if waits:
            jax.block_until_ready(after)
        before, self._pending = self._pending, _largest(self._inputs[mine])
        if waits:
            jax.block_until_ready(self._pending)
        return 0 if before is None else int(before)


_largest = jax.jit(jnp.max)


def leave(status: int) -> None:
    """Ends this process at once if there are others, so that they notice; else does nothing.

    A normal exit would wait for the others, which wait for this one in the middle of a step.
    """
    if not jax.distributed.is_initialized():
        return
    logging.flush()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

"""Several processes as one run: how they find each other, agree, and leave.

JAX runs the same program in every process. Here is the little that differs between them: who
writes, what one process knows and the others must hear, and what happens when one is gone.
"""

import json
import logging as std_logging
import os
import signal
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from clipa_jax.errors import ConfigError

AUTO, ALONE = "auto", "none"


def join(
    coordinator: str = AUTO,
    processes: int | None = None,
    process: int | None = None,
    start_timeout: int = 300,
    peer_timeout: int = 60,
) -> None:
    """Meets the other processes of the run, where there are any; call it before JAX is used.

    Args:
      coordinator: "auto" lets JAX look for a cluster that it knows (SLURM, a TPU slice, GKE, Open
        MPI) and stays alone where there is none; "none" stays alone in any case; else host:port,
        an address of process 0.
      processes, process: how many there are, and which this one is; needed with host:port.
      start_timeout: seconds to wait for the others.
      peer_timeout: seconds after which a process that died ends the others.

    Raises:
      ConfigError: arguments that contradict each other.
    """
    if coordinator in (AUTO, ALONE):
        if processes is not None or process is not None:
            raise ConfigError(
                f"distributed.processes={processes} and distributed.process={process} need "
                "distributed.coordinator=HOST:PORT of process 0 too"
            )
        found: dict[str, Any] = {}
    else:
        found = _given(coordinator, processes, process)
    if coordinator == ALONE:
        return
    # JAX's own service for preemption would swallow SIGTERM from here on; see interrupt.py.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            **found,
            initialization_timeout=start_timeout,
            heartbeat_timeout_seconds=peer_timeout,
        )
    except ValueError as error:
        # How JAX says that it found no cluster: the address is the first thing that it misses.
        if found or "coordinator_address" not in str(error):
            raise
        return
    # JAX aborts a process whose peer died, with a sentence; absl would bury it under a stack.
    signal.signal(signal.SIGABRT, signal.SIG_DFL)
    handler = logging.get_absl_handler()
    handler.setFormatter(std_logging.Formatter(f"[process {jax.process_index()}] %(message)s"))
    if not first():
        logging.set_verbosity(logging.WARNING)


def _given(coordinator: str, processes: int | None, process: int | None) -> dict[str, Any]:
    """Arguments of `jax.distributed.initialize` for processes that were started by hand."""
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
    """Whether this is process 0, which alone writes logs, results and pictures."""
    return jax.process_index() == 0


def several() -> bool:
    """Whether there are other processes."""
    return jax.process_count() > 1


def from_first(value: Any) -> Any:
    """What process 0 gives, on every process; anything that JSON holds."""
    if not several():
        return value
    data = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
    padded = np.zeros(size, np.uint8)
    padded[: min(size, len(data))] = data[:size]
    return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(padded)).tobytes())


def from_all(number: int) -> list[int]:
    """The number of every process, in their order, on every process."""
    if not several():
        return [number]
    return [int(n) for n in np.ravel(multihost_utils.process_allgather(np.int32(number)))]


class Flag:
    """A number that any process may raise, and that all see raised at the same call.

    Each `read` asks all devices for the largest number, behind the work that they have been
    given, and returns what the call before has asked for. So all processes see the same, and
    none waits for more than the step before.

    CPU devices are different: their processes may run two programs that do not depend on each
    other in either order, and then wait for each other for ever. There `read` waits.
    """

    def __init__(self) -> None:
        self._inputs: dict[int, jax.Array] = {}
        self._pending: jax.Array | None = None

    def read(self, mine: int, after: Any = None) -> int:
        """The largest number that a process gave at the call before; 0 at the first.

        Args:
          mine: of this process, at least 0; on a single one it is returned at once.
          after: arrays of the program that was started last, if it may still run.
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

    An ordinary exit would wait for the others, who wait for this one in the middle of a step.
    """
    if not jax.distributed.is_initialized():
        return
    logging.flush()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

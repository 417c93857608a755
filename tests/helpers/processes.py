"""Starting several processes that find each other on this machine."""

import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start(count: int, arguments: Callable[[int, int], list[str]]) -> list[subprocess.Popen[str]]:
    """Starts Python processes that are told of each other.

    Args:
      count: how many.
      arguments: of Python, for (index, port), the port of process 0.
    """
    port = _free_port(0)
    return [_start(arguments(index, port), {}) for index in range(count)]


def start_in_slurm(count: int, arguments: list[str]) -> list[subprocess.Popen[str]]:
    """Starts Python processes that find the variables of a SLURM job step on this machine."""
    job = next(job for job in iter(lambda: random.randrange(2**12), None) if _is_free(job))
    step = {
        "SLURM_JOB_ID": str(job),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": str(count),
    }
    return [
        _start(arguments, step | {"SLURM_PROCID": str(index), "SLURM_LOCALID": str(index)})
        for index in range(count)
    ]


def _start(arguments: list[str], variables: Mapping[str, str]) -> subprocess.Popen[str]:
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment | dict(variables),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _is_free(job: int) -> bool:
    """Whether nothing listens on the port that JAX takes for a SLURM job."""
    try:
        _free_port(65_535 - 2**12 + 1 + job % 2**12)
    except OSError:
        return False
    return True


def _free_port(port: int) -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", port))
        return probe.getsockname()[1]

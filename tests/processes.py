"""Starting several processes that find each other on this machine."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def start(count: int, arguments: Callable[[int, int], list[str]]) -> list[subprocess.Popen[str]]:
    """Starts Python processes.

    Args:
      count: how many.
      arguments: of Python, for (index, port), the port of process 0.
    """
    port = free_port()
    paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    return [
        subprocess.Popen(
            [sys.executable, *arguments(index, port)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(count)
    ]

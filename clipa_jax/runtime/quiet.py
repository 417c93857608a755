"""Keeps the start-up noise of TensorFlow and libtpu off the terminal."""

import contextlib
import glob
import os
import sys
import tempfile
from collections.abc import Iterator

# What libtpu would otherwise ask of a TPU host's metadata server, which is not there: it waits
# minutes for an answer, and complains. Several processes may hold the library, since none of
# them holds a chip.
LIBTPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",  # of this host, if it were one; any will do
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_LOG_DIR": "disabled",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def libtpu() -> None:
    """Keeps libtpu, where it is installed for the planner alone, from looking for a TPU.

    On a host with TPUs it does nothing. Before JAX first looks at its devices.
    """
    if not glob.glob("/dev/accel*") and not glob.glob("/dev/vfio/[0-9]*"):
        for key, value in LIBTPU.items():
            os.environ.setdefault(key, value)


@contextlib.contextmanager
def stderr() -> Iterator[None]:
    """Holds back what is written to file descriptor 2; shows it if an exception passes.

    TensorFlow's C++ start-up lines come before any of its log levels apply, and nothing but
    this keeps them off the terminal.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(saved, 2)
            held.seek(0)
            os.write(2, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)

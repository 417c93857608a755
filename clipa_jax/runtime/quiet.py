"""Suppress the start-up messages of TensorFlow and libtpu."""

import contextlib
import glob
import os
import sys
import tempfile
from collections.abc import Iterator

# Without these libtpu waits minutes for the metadata server of a TPU host. Several processes may
# load the library, since none of them uses a chip.
LIBTPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",  # any valid value
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_LOG_DIR": "disabled",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def libtpu() -> None:
    """Stops libtpu, installed for the planner alone, from searching for a TPU.

    Called before JAX first queries its devices. Does nothing on a host with TPUs.
    """
    if not glob.glob("/dev/accel*") and not glob.glob("/dev/vfio/[0-9]*"):
        for key, value in LIBTPU.items():
            os.environ.setdefault(key, value)


@contextlib.contextmanager
def stderr() -> Iterator[None]:
    """Holds back output to file descriptor 2; writes it if an exception passes.

    TensorFlow writes C++ start-up lines before its log levels apply.
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

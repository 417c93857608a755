"""Keeps the start-up noise of TensorFlow off the terminal."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


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

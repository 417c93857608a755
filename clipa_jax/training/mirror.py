"""A local folder whose growing files are copied into a bucket, where objects cannot grow."""

import shutil
import tempfile
import threading
from pathlib import Path

from absl import logging

from clipa_jax.runtime import files


class Mirror:
    """A folder to write to: the target itself, or a local one that is copied into a bucket.

    A bucket gets the files that changed from time to time and at `flush`, each as a whole.
    """

    def __init__(self, target: files.Path, every_seconds: float = 30.0):
        self._target, self._every = target, every_seconds
        self._sizes: dict[Path, int] = {}
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        if not files.scheme(target):
            self.folder = Path(target)
            return
        self.folder = Path(tempfile.mkdtemp(prefix="clipa_jax-"))
        self._thread = threading.Thread(target=self._copy, daemon=True)
        self._thread.start()

    def flush(self) -> None:
        """Copies what changed; `OSError` if the bucket cannot be written."""
        if self._thread is None:
            return
        with self._lock:
            for file in sorted(self.folder.rglob("*")):
                size = file.stat().st_size
                if file.is_file() and self._sizes.get(file) != size:
                    copy = self._target / file.relative_to(self.folder).as_posix()
                    files.write_bytes(copy, file.read_bytes()[:size])
                    self._sizes[file] = size

    def close(self) -> None:
        """Copies what changed and removes the local folder."""
        if self._thread is None:
            return
        self._ended.set()
        self._thread.join()
        self.flush()
        shutil.rmtree(self.folder)

    def _copy(self) -> None:
        while not self._ended.wait(self._every):
            try:
                self.flush()
            except OSError as error:
                logging.warning("%s is behind: %s", self._target, files.reason(error))

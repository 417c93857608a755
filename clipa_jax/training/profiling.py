"""A trace of some steps of a stage, for TensorBoard and Perfetto."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from absl import logging

from clipa_jax.errors import ConfigError
from clipa_jax.runtime import distributed, files
from clipa_jax.runtime.files import Path

PERFETTO = "perfetto_trace.json.gz"


def check(steps: Sequence[int]) -> tuple[int, ...]:
    """`profile_steps` of a config: nothing, or the first and the last step to trace."""
    steps = tuple(steps)
    if steps and not (len(steps) == 2 and 1 <= steps[0] <= steps[1]):
        raise ConfigError(
            f"config.profile_steps={steps}: expected the first and the last step to trace, such as "
            "100,105, or () for none"
        )
    return steps


class Trace:
    """Traces the steps from the first to the last, on process 0, into FOLDER/plugins/profile."""

    def __init__(self, steps: Sequence[int], folder: Path):
        self._steps, self._folder, self._runs = tuple(steps), folder, False
        self._local = ""

    def begin(self, step: int) -> None:
        """Starts the trace where `step`, which comes next, is in it."""
        if self._steps and not self._runs and self._steps[0] <= step <= self._steps[1]:
            self._runs = distributed.first()
            if self._runs:
                self._local = tempfile.mkdtemp()  # JAX writes to disks alone
                jax.profiler.start_trace(self._local, create_perfetto_trace=True)

    def end(self, step: int, values: Any) -> None:
        """Stops the trace after its last step, once the values of that step are computed."""
        if self._runs and step >= self._steps[1]:
            jax.block_until_ready(values)
            self.close()

    def close(self) -> None:
        """Stops the trace if it runs."""
        if self._runs:
            self._runs, self._steps = False, ()
            jax.profiler.stop_trace()
            for file in Path(self._local).glob("plugins/profile/*/*"):
                out = self._folder / file.relative_to(self._local)
                files.make_folder(out.parent)
                files.write_bytes(out, file.read_bytes())
                if file.name == PERFETTO:
                    logging.info("wrote the trace %s", out)
            shutil.rmtree(self._local)


@contextlib.contextmanager
def trace(steps: Sequence[int], folder: Path) -> Iterator[Trace]:
    """A trace that is stopped at the end of the block, if not before."""
    running = Trace(steps, folder)
    try:
        yield running
    finally:
        running.close()

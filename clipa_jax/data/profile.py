"""The time of each stage of the input pipeline, measured on a few samples.

A stage is timed as the difference between two prefixes of the pipeline: reading alone, then with
parsing, then with one op after the other in the order in which they run (`fusion.phases`).
"""

import itertools
import math
import random
import threading
import time
from collections.abc import Callable, Iterator

import tensorflow as tf
from absl import logging

from clipa_jax.data import reading, robust_map
from clipa_jax.data.pipeline import TrainData
from clipa_jax.data.sources import Source
from clipa_jax.errors import UserError
from clipa_jax.preprocess import fusion

READ, PARSE = "read", "parse"
_CHUNKS = 8  # timed at once
_ROUNDS = 3  # the fastest counts


def prefixes(preprocess: str) -> dict[str, str]:
    """The string of all ops up to each stage, by the stage's name, in the order in which they run.

    The first stage is `PARSE`, without any op.
    """
    steps = [step for phase in fusion.phases(preprocess) for step in phase.steps]
    names = [step.call.name for step in steps]
    names = [f"{n} {i}" if names.count(n) > 1 else n for i, n in enumerate(names, 1)]
    strings = itertools.accumulate((str(step.call) for step in steps), "{}|{}".format)
    return {PARSE: "", **dict(zip(names, strings, strict=True))}


def measure(data: TrainData, go_on: Callable[[], bool] = lambda: True) -> dict[str, float]:
    """Seconds that one sample takes in each stage, on one core.

    Reads neighboring samples at a random place and prepares them a few times, a chunk at a time.
    A source that is cached in memory is read from its files. `go_on` is called before each stage;
    the rest is left out once it returns false.
    """
    source, size = data.source, data.chunk
    begin = time.perf_counter()
    read = _neighbors(source, size * _CHUNKS)
    spent = {READ: (time.perf_counter() - begin) / len(read)}
    records = tf.gather(read, tf.range(size * _CHUNKS) % len(read))  # repeated if they are few
    chunks = tf.data.Dataset.from_tensor_slices(
        {
            "record": tf.reshape(records, [_CHUNKS, size, source.width]),
            "count": tf.reshape(tf.range(size * _CHUNKS, dtype=tf.int64), [_CHUNKS, size]),
        }
    )
    one_core = tf.data.Options()
    one_core.threading.private_threadpool_size = 1
    before = 0.0
    for name, preprocess in prefixes(data.preprocess).items():
        if not go_on():
            break
        process, _ = robust_map.chunk_function(source, preprocess, size=size, seed=0, keep=None)
        ready = iter(process(chunks.repeat()).with_options(one_core))
        next(ready)
        until = min(_timed(ready) for _ in range(_ROUNDS)) / size
        spent[name] = max(until - before, 0.0)
        before = max(until, before)
    return spent


def _neighbors(source: Source, number: int) -> tf.Tensor:
    """At most `number` neighboring records (records, F), from a random place of a shard."""
    chance = random.Random()
    shard = chance.choice([i for i, shard in enumerate(source.shards) if shard.length])
    length = min(source.shards[shard].length, number)
    start = chance.randint(0, source.shards[shard].length - length)
    places = (tf.constant(place, tf.int64) for place in (shard, start, length))
    return reading.records(source, *places).batch(length).get_single_element()


def _timed(chunks: Iterator[robust_map.Chunk]) -> float:
    """Seconds that a chunk takes."""
    begin = time.perf_counter()
    for _ in itertools.islice(chunks, _CHUNKS):
        pass
    return (time.perf_counter() - begin) / _CHUNKS


class WaitWarning:
    """Logs the slowest stage of the pipeline when steps wait for their input.

    Called with the share of time that steps waited, of which they may wait `share`. The stages are
    timed in the background, in a few seconds, and at most every `every` seconds.
    """

    def __init__(self, data: TrainData, share: float = 0.1, every: float = 1_800.0):
        self._data, self._share, self._every = data, share, every
        self._first = True  # includes the start of the pipeline
        self._next = -math.inf
        self._thread: threading.Thread | None = None

    def __call__(self, share: float) -> None:
        first, self._first = self._first, False
        now = time.monotonic()
        if first or share <= self._share or now < self._next:
            return
        self._next = now + self._every
        # Not a daemon: one that is inside TensorFlow when Python exits aborts the process.
        self._thread = threading.Thread(target=self._warn, args=(share,))
        self._thread.start()

    def wait(self) -> None:
        """Waits until a warning in preparation is logged."""
        if self._thread is not None:
            self._thread.join()

    def _warn(self, share: float) -> None:
        go_on = threading.main_thread().is_alive  # false once Python waits for its threads
        try:
            spent = measure(self._data, go_on)
        except (UserError, tf.errors.OpError) as error:
            reason = f"its stages could not be timed ({error})"
        else:
            slowest = max(spent, key=lambda name: spent[name])
            times = ", ".join(f"{name} {value * 1e6:.0f}" for name, value in spent.items())
            reason = (
                f"its slowest stage is {slowest}, {spent[slowest] / sum(spent.values()):.0%} of a "
                f"sample's time; microseconds of each on one core: {times}"
            )
        if go_on():
            logging.warning(
                "steps wait for their input %.0f%% of the time; %s", 100 * share, reason
            )

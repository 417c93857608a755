"""The Beam pipelines: read partitions, drop duplicates, shuffle, write shards.

Pictures do not pass through Beam's shuffles: those carry the 56 bytes of an `index.ENTRY` for
each sample, in arrays of many, while the records wait in the files of the partitions. So the
direct runner, which holds its shuffles in memory, needs no more memory for larger pictures, and
finished files survive a killed run. Each pipeline is one chain without side inputs or tagged
outputs, which not all runners support: counters travel among the entries under a key of their
own. Beam sends the functions and arguments of this module to its workers by its own pickling; no
data is pickled.

    partitions -> read -> by digest -> unique -> by key -> files of buckets, counters
    buckets -> ranks -> by shard -> write
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from clipa_jax.errors import DataError
from clipa_jax.prepare import index, partitions, shards
from clipa_jax.prepare.counters import Counters
from clipa_jax.prepare.layout import RECORD_BYTES, WRITTEN, Layout
from clipa_jax.prepare.options import DIRECT, Options
from clipa_jax.prepare.partitions import DROPPED, Partition
from clipa_jax.runtime import files, quiet, storage

with quiet.stderr():  # it warns of parts that are not needed here
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

# Beam's own name for the direct runner, DirectRunner, first looks for a program to download.
RUNNERS = {DIRECT: "FnApiRunner", "DaskRunner": "apache_beam.runners.dask.dask_runner.DaskRunner"}
DUPLICATE = f"{DROPPED}duplicate"
ANEW, LEFT_OUT = "images_encoded_anew", "captions_left_out"
COUNTERS = "tally.json"
_COUNTERS_KEY = -1  # entries have keys from 0
Keyed = tuple[int, bytes]


@dataclass(frozen=True)
class Job:
    """The settings that all steps of the pipelines share."""

    options: Options
    total: int  # samples of the input
    partitions: str  # folders for the files of each; counters lie with the buckets
    shards: str
    buckets: str

    @property
    def counters(self) -> str:
        """The file with the counters."""
        return storage.join(self.buckets, COUNTERS)


def run(job: Job, work: list[Partition], runner: str, arguments: list[str]) -> Counters:
    """Runs both pipelines to their end; counts of kept and dropped samples.

    `runner` is `DIRECT` for this process, or the name of a Beam runner; `arguments` are for Beam,
    as on its command lines. `DataError` if Beam does not know them, or if a pipeline failed.
    """
    _run(lambda pipeline: _index(pipeline, job, work), runner, arguments)
    counters = Counters.from_dict(files.read_json(job.counters))
    layout = Layout.plan(job.options, counters)
    if layout.kept:
        _run(lambda pipeline: _shard(pipeline, job, layout), runner, arguments)
    return counters


def _run(build: Callable[[beam.Pipeline], None], runner: str, arguments: list[str]) -> None:
    try:
        name = RUNNERS.get(runner, runner)
        pipeline = beam.Pipeline(runner=name, options=PipelineOptions(arguments))
    except (ValueError, ImportError, SystemExit) as error:
        raise DataError(f"runner {runner} with {arguments}: {error}") from None
    build(pipeline)
    try:
        pipeline.run().wait_until_finish()
    except (RuntimeError, tf.errors.OpError, OSError) as error:
        reason = (str(error).strip().splitlines() or ["?"])[-1]
        raise DataError(
            f"runner {runner} failed: {reason}; finished files are kept, run the same command "
            f"again to continue"
        ) from error


def _index(pipeline: beam.Pipeline, job: Job, work: list[Partition]) -> None:
    """Adds the steps from the input to the files of buckets."""
    read = (
        pipeline
        | "Partitions" >> beam.Create(work)
        | "Spread" >> beam.Reshuffle()
        | "Read" >> beam.FlatMap(_read, job)
    )
    if job.options.duplicates != "none":
        read = (
            read
            | "By digest" >> beam.FlatMap(_by_digest)
            | "Same digest" >> beam.GroupByKey()
            | "Unique" >> beam.FlatMap(_drop_duplicates)
        )
    (
        read
        | "By key" >> beam.FlatMap(_by_key, job.total)
        | "Same bucket" >> beam.GroupByKey()
        | "Store" >> beam.Map(_store, job)
    )


def _shard(pipeline: beam.Pipeline, job: Job, layout: Layout) -> None:
    """Adds the steps from the files of buckets to the shards."""
    (
        pipeline
        | "Buckets" >> beam.Create(_buckets(job))
        | "Spread" >> beam.Reshuffle()
        | "Ranks" >> beam.FlatMap(_by_shard, job, layout)
        | "Same shard" >> beam.GroupByKey()
        | "Write" >> beam.Map(_write, job, layout)
    )


def _read(partition: Partition, job: Job) -> Iterator[Keyed]:
    partitions.writer(job.options, job.partitions).write(partition)
    entry_X, counters = partitions.read_index(job.partitions, partition.number)
    yield _keyed(counters)
    yield 0, entry_X.tobytes()


def _by_digest(keyed: Keyed) -> Iterator[Keyed]:
    key, part = keyed
    return iter([keyed]) if key == _COUNTERS_KEY else index.by_digest(index.join([part]))


def _drop_duplicates(group: tuple[int, Iterable[bytes]]) -> Iterator[Keyed]:
    key, parts = group
    if key == _COUNTERS_KEY:
        yield _keyed(_add_up(parts))
        return
    first_X, again_X = index.split_duplicates(index.join(parts))
    counters = Counters()
    counters.add(DUPLICATE, len(again_X), np.sort(again_X["row"]).tolist())
    yield _keyed(counters)
    yield key, first_X.tobytes()


def _by_key(keyed: Keyed, total: int) -> Iterator[Keyed]:
    key, part = keyed
    if key == _COUNTERS_KEY:
        yield keyed
        return
    entry_X, counters = index.join([part]), Counters()
    counters.add(WRITTEN, len(entry_X))
    for name, column in ((RECORD_BYTES, "length"), (ANEW, "anew"), (LEFT_OUT, "left_out")):
        counters.add(name, int(entry_X[column].sum(dtype=np.int64)))
    yield _keyed(counters)
    yield from index.by_key(entry_X, total)


def _store(group: tuple[int, Iterable[bytes]], job: Job) -> None:
    key, parts = group
    if key == _COUNTERS_KEY:
        files.write_json(job.counters, _add_up(parts).as_dict())
        return
    storage.write(_bucket_path(job, key), b"".join(parts))


def _buckets(job: Job) -> list[tuple[int, int]]:
    """(bucket, samples in the buckets before it) of every bucket."""
    buckets, before = [], 0
    for bucket in range(index.BUCKETS):
        path = _bucket_path(job, bucket)
        if storage.exists(path):
            buckets.append((bucket, before))
            before += storage.stamp(path)[0] // index.ENTRY.itemsize
    return buckets


def _by_shard(bucket: tuple[int, int], job: Job, layout: Layout) -> Iterator[Keyed]:
    number, before = bucket
    entries = storage.read(_bucket_path(job, number))
    return index.by_shard(index.join([entries]), before, layout)


def _write(group: tuple[int, Iterable[bytes]], job: Job, layout: Layout) -> None:
    shard, parts = group
    shards.write(index.join(parts), shard, layout, job.partitions, job.shards)


def _bucket_path(job: Job, bucket: int) -> str:
    return storage.join(job.buckets, f"{bucket:03d}.entries")


def _keyed(counters: Counters) -> Keyed:
    return _COUNTERS_KEY, json.dumps(counters.as_dict()).encode()


def _add_up(parts: Iterable[bytes]) -> Counters:
    total = Counters()
    for part in parts:
        total.merge(Counters.from_dict(json.loads(part)))
    return total

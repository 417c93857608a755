"""The Beam pipeline: read partitions, drop duplicates, shuffle, write shards.

Pictures do not pass through Beam's shuffles: those carry the 56 bytes of an `index.ENTRY` for
each sample, in arrays of many, while the records wait in the files of the partitions. So the
direct runner, which holds its shuffles in memory, needs no more memory for larger pictures, and
finished files survive a killed run. Beam sends the functions and arguments of this module to its
workers by its own pickling; no data is pickled.

    partitions -> read -> entries -> by digest -> the first of each
                                                       |
        shards <- write <- by shard <- ranks by bucket of keys
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from clipa_jax.errors import DataError
from clipa_jax.prepare import files, index, partitions, shards
from clipa_jax.prepare.counters import Counters
from clipa_jax.prepare.layout import RECORD_BYTES, WRITTEN, Layout
from clipa_jax.prepare.options import Options
from clipa_jax.prepare.partitions import DROPPED, Partition
from clipa_jax.runtime import quiet

with quiet.stderr():  # it warns of parts that are not needed here
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

DIRECT = "direct"
DUPLICATE = f"{DROPPED}duplicate"
ANEW, LEFT_OUT = "images_encoded_anew", "captions_left_out"
COUNTERS = "tally.json"


@dataclass(frozen=True)
class Job:
    """What all steps of the pipeline need.

    Attributes:
      options: of the dataset.
      total: samples of the input.
      partitions, shards, counters: folders for the files of each.
    """

    options: Options
    total: int
    partitions: str
    shards: str
    counters: str


def run(job: Job, work: list[Partition], runner: str, arguments: list[str]) -> Counters:
    """Runs the pipeline to its end.

    Args:
      job: the dataset.
      work: all partitions of the input.
      runner: `DIRECT` for this process, or the name of a Beam runner.
      arguments: for Beam, as on its command lines.

    Returns:
      Counts of kept and dropped samples.

    Raises:
      DataError: Beam does not know the runner or the arguments; the data was refused; the
        pipeline failed.
    """
    try:
        # Beam's own name for it, DirectRunner, first looks for a program to download.
        name = "FnApiRunner" if runner == DIRECT else runner
        pipeline = beam.Pipeline(runner=name, options=PipelineOptions(arguments))
    except (ValueError, ImportError, SystemExit) as error:
        raise DataError(f"runner {runner} with {arguments}: {error}") from None
    build(pipeline, job, work)
    try:
        pipeline.run().wait_until_finish()
    except (RuntimeError, tf.errors.OpError, OSError) as error:
        reason = (str(error).strip().splitlines() or ["?"])[-1]
        raise DataError(
            f"runner {runner} failed: {reason}; finished files are kept, run the same command "
            f"again to continue"
        ) from error
    return Counters.from_dict(files.read_json(files.join(job.counters, COUNTERS)))


def build(pipeline: beam.Pipeline, job: Job, work: list[Partition]) -> None:
    """Adds all steps to a pipeline."""
    entries_read = (
        pipeline
        | "Partitions" >> beam.Create(work)
        | "Spread" >> beam.Reshuffle()
        | "Read" >> beam.FlatMap(_read, job).with_outputs("counters", main="entries")
    )
    kept, counters = entries_read.entries, [entries_read.counters]
    if job.options.duplicates != "none":
        unique = (
            kept
            | "By digest" >> beam.FlatMap(_by_digest)
            | "Same digest" >> beam.GroupByKey()
            | "Unique" >> beam.FlatMap(_drop_duplicates).with_outputs("counters", main="entries")
        )
        kept = unique.entries
        counters.append(unique.counters)
    by_key = kept | "By key" >> beam.FlatMap(_by_key, job.total)
    sizes = by_key | "Size" >> beam.Map(_size) | "Sizes" >> beam.CombinePerKey(sum)
    counters.append(kept | "Count kept" >> beam.Map(_count_kept))
    total = counters | beam.Flatten() | "Add up" >> beam.CombineGlobally(_add_up)
    total | "Store the counters" >> beam.Map(_write_counters, job.counters)
    total_side = beam.pvalue.AsSingleton(total)
    (
        by_key
        | "Neighbors" >> beam.GroupByKey()
        | "Ranks" >> beam.FlatMap(_by_shard, beam.pvalue.AsDict(sizes), total_side, job)
        | "Same shard" >> beam.GroupByKey()
        | "Write" >> beam.Map(_write, total_side, job)
    )


def _read(partition: Partition, job: Job) -> Iterator[Any]:
    partitions.writer(job.options, job.partitions).write(partition)
    entry_X, counters = partitions.read_index(job.partitions, partition.number)
    yield beam.pvalue.TaggedOutput("counters", counters.as_dict())
    yield entry_X.tobytes()


def _by_digest(part: bytes) -> Iterator[tuple[int, bytes]]:
    return index.by_digest(index.join([part]))


def _by_key(part: bytes, total: int) -> Iterator[tuple[int, bytes]]:
    return index.by_key(index.join([part]), total)


def _drop_duplicates(group: tuple[int, Iterable[bytes]]) -> Iterator[Any]:
    first_X, again_X = index.split_duplicates(index.join(group[1]))
    counters = Counters()
    counters.add(DUPLICATE, len(again_X), np.sort(again_X["row"]).tolist())
    yield beam.pvalue.TaggedOutput("counters", counters.as_dict())
    yield first_X.tobytes()


def _size(part: tuple[int, bytes]) -> tuple[int, int]:
    return part[0], len(part[1]) // index.ENTRY.itemsize


def _count_kept(part: bytes) -> dict[str, Any]:
    entry_X, counters = index.join([part]), Counters()
    counters.add(WRITTEN, len(entry_X))
    for name, column in ((RECORD_BYTES, "length"), (ANEW, "anew"), (LEFT_OUT, "left_out")):
        counters.add(name, int(entry_X[column].sum(dtype=np.int64)))
    return counters.as_dict()


def _add_up(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    total = Counters()
    for part in parts:
        total.merge(Counters.from_dict(part))
    return total.as_dict()


def _write_counters(counters: dict[str, Any], folder: str) -> None:
    files.write_json(files.join(folder, COUNTERS), counters)


def _by_shard(
    group: tuple[int, Iterable[bytes]], sizes: dict[int, int], counters: dict[str, Any], job: Job
) -> Iterator[tuple[int, bytes]]:
    bucket, parts = group
    layout = Layout.plan(job.options, Counters.from_dict(counters))
    before = sum(size for other, size in sizes.items() if other < bucket)
    return index.by_shard(index.join(parts), before, layout)


def _write(group: tuple[int, Iterable[bytes]], counters: dict[str, Any], job: Job) -> None:
    shard, parts = group
    layout = Layout.plan(job.options, Counters.from_dict(counters))
    shards.write(index.join(parts), shard, layout, job.partitions, job.shards)

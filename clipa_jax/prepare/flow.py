"""The Beam pipeline: read pieces, drop what is there twice, put in order, write shards.

Pictures do not go through Beam's shuffles: those carry 56 bytes a sample (`facts.FACT`), in
arrays of many; pictures wait in the files of the pieces until their shard is written. So the
direct runner, which keeps its shuffles in memory, needs no more of it for larger pictures,
and what is finished when a run is killed stays finished. Beam ships functions and arguments
of this module between its workers by its own pickling; no data is pickled.

    pieces -> read -> facts of each piece -> by digest -> the first of each
                                                 |
            shards <- write <- by shard <- ranks by bucket of keys
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from clipa_jax.errors import DataError
from clipa_jax.prepare import files, index, partitions, shards
from clipa_jax.prepare.counters import Tally
from clipa_jax.prepare.options import Options
from clipa_jax.prepare.partitions import DROPPED, Piece
from clipa_jax.runtime import quiet

with quiet.stderr():  # it warns of parts that are not needed here
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

DIRECT = "direct"
DUPLICATE, WRITTEN, RECORD_BYTES = f"{DROPPED}duplicate", "written", "record_bytes"
ANEW, LEFT_OUT = "images_encoded_anew", "captions_left_out"
TALLY = "tally.json"


def run(
    options: Options,
    work: list[Piece],
    total: int,
    folders: tuple[str, str, str],
    runner: str,
    arguments: list[str],
) -> Tally:
    """Runs the pipeline to its end.

    Args:
      options: of the dataset.
      work: all pieces of the input.
      total: samples of the input.
      folders: for the pieces, for the shards, and for what is found out.
      runner: `DIRECT` for this process, or the name of one of Beam's.
      arguments: for Beam, as on its command lines.

    Returns:
      What became of the samples.

    Raises:
      DataError: Beam does not know the runner or the arguments; the data was refused; the
        pipeline did not come to its end.
    """
    try:
        # Beam's own name for it, DirectRunner, first looks for a program to download.
        name = "FnApiRunner" if runner == DIRECT else runner
        pipeline = beam.Pipeline(runner=name, options=PipelineOptions(arguments))
    except (ValueError, ImportError, SystemExit) as error:
        raise DataError(f"runner {runner} with {arguments}: {error}") from None
    build(pipeline, options, work, total, folders)
    try:
        pipeline.run().wait_until_finish()
    except (RuntimeError, tf.errors.OpError, OSError) as error:
        reason = (str(error).strip().splitlines() or ["?"])[-1]
        raise DataError(
            f"runner {runner} did not come to the end: {reason}; what was finished is kept, "
            f"the same command goes on with it"
        ) from error
    return Tally.from_dict(files.read_json(files.join(folders[2], TALLY)))


def build(
    pipeline: beam.Pipeline,
    options: Options,
    work: list[Piece],
    total: int,
    folders: tuple[str, str, str],
) -> None:
    """Adds everything to a pipeline."""
    read, into, found = folders
    pieces_read = (
        pipeline
        | "Pieces" >> beam.Create(work)
        | "Spread" >> beam.Reshuffle()
        | "Read" >> beam.FlatMap(_read, options, read).with_outputs("tally", main="facts")
    )
    kept, tallies = pieces_read.facts, [pieces_read.tally]
    if options.duplicates != "none":
        unique = (
            kept
            | "By digest" >> beam.FlatMap(_by_digest)
            | "Same digest" >> beam.GroupByKey()
            | "First ones" >> beam.FlatMap(_first_ones).with_outputs("tally", main="facts")
        )
        kept = unique.facts
        tallies.append(unique.tally)
    by_key = kept | "By key" >> beam.FlatMap(_by_key, total)
    counts = by_key | "Count" >> beam.Map(_count) | "Counts" >> beam.CombinePerKey(sum)
    tallies.append(kept | "Tally kept" >> beam.Map(_tally_kept))
    tally = tallies | beam.Flatten() | "Add up" >> beam.CombineGlobally(_add_up)
    tally | "Keep the tally" >> beam.Map(_write_tally, found)
    (
        by_key
        | "Neighbours" >> beam.GroupByKey()
        | "Ranks"
        >> beam.FlatMap(
            _by_shard, beam.pvalue.AsDict(counts), beam.pvalue.AsSingleton(tally), options
        )
        | "Same shard" >> beam.GroupByKey()
        | "Write" >> beam.Map(_write, beam.pvalue.AsSingleton(tally), options, (read, into))
    )


def _read(piece: Piece, options: Options, folder: str) -> Iterator[Any]:
    partitions.reader(options, folder).read(piece)
    fact_X, tally = partitions.read_facts(folder, piece.number)
    yield beam.pvalue.TaggedOutput("tally", tally.as_dict())
    yield fact_X.tobytes()


def _by_digest(part: bytes) -> Iterator[tuple[int, bytes]]:
    return index.by_digest(index.join([part]))


def _by_key(part: bytes, total: int) -> Iterator[tuple[int, bytes]]:
    return index.by_key(index.join([part]), total)


def _first_ones(group: tuple[int, Iterable[bytes]]) -> Iterator[Any]:
    first_X, again_X = index.first_ones(index.join(group[1]))
    tally = Tally()
    tally.add(DUPLICATE, len(again_X), np.sort(again_X["row"]).tolist())
    yield beam.pvalue.TaggedOutput("tally", tally.as_dict())
    yield first_X.tobytes()


def _count(part: tuple[int, bytes]) -> tuple[int, int]:
    return part[0], len(part[1]) // index.FACT.itemsize


def _tally_kept(part: bytes) -> dict[str, Any]:
    fact_X, tally = index.join([part]), Tally()
    tally.add(WRITTEN, len(fact_X))
    for name, column in ((RECORD_BYTES, "length"), (ANEW, "anew"), (LEFT_OUT, "left_out")):
        tally.add(name, int(fact_X[column].sum(dtype=np.int64)))
    return tally.as_dict()


def _add_up(tallies: Iterable[dict[str, Any]]) -> dict[str, Any]:
    total = Tally()
    for tally in tallies:
        total.merge(Tally.from_dict(tally))
    return total.as_dict()


def _write_tally(tally: dict[str, Any], folder: str) -> None:
    files.write_json(files.join(folder, TALLY), tally)


def _by_shard(
    group: tuple[int, Iterable[bytes]],
    counts: dict[int, int],
    tally: dict[str, Any],
    options: Options,
) -> Iterator[tuple[int, bytes]]:
    bucket, parts = group
    kept, num_shards = sizes(options, Tally.from_dict(tally))
    before = sum(count for other, count in counts.items() if other < bucket)
    return index.by_shard(index.join(parts), before, kept, num_shards)


def _write(
    group: tuple[int, Iterable[bytes]],
    tally: dict[str, Any],
    options: Options,
    folders: tuple[str, str],
) -> None:
    shard, parts = group
    kept, num_shards = sizes(options, Tally.from_dict(tally))
    shards.write(options, index.join(parts), shard, num_shards, kept, folders)


def sizes(options: Options, tally: Tally) -> tuple[int, int]:
    """How many samples the dataset has, and how many shards."""
    kept = tally[WRITTEN]
    return kept, shards.how_many(options, kept, tally[RECORD_BYTES])

"""The input in partitions, each of which is read once and stored sorted.

The records of a partition, as the dataset will have them, are in one file: sorted by key in
blocks of bounded size, so that the records of a shard lie together. Its index is in a second
file, which is written last and so marks the partition as done.
"""

import functools
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from clipa_jax.data import embeddings, sources
from clipa_jax.data.sources.base import Source
from clipa_jax.errors import DataError
from clipa_jax.prepare import index, near_duplicates, records
from clipa_jax.prepare.counters import Counters
from clipa_jax.prepare.filters import drop_reason
from clipa_jax.prepare.options import Options
from clipa_jax.prepare.samples import Sample, SampleReader, digest
from clipa_jax.runtime import storage

SIZE = 10_000  # samples of a partition, as many as img2dataset puts into a file
BLOCK = 256 * 2**20  # bytes of records held in memory before they are sorted and written
DROPPED = "dropped/"  # prefix of the reasons among the counters


@dataclass(frozen=True)
class Partition:
    """Neighboring samples of one shard of the source."""

    number: int
    shard: int  # index into `source.shards`
    start: int  # in the shard
    length: int  # samples
    row: int  # of the first one, among all samples of the source


def divide(source: Source, size: int = SIZE) -> list[Partition]:
    """All partitions of a source, in its order."""
    partitions: list[Partition] = []
    row = 0
    for number, shard in enumerate(source.shards):
        for start in range(0, shard.length, size):
            length = min(size, shard.length - start)
            partitions.append(Partition(len(partitions), number, start, length, row))
            row += length
    return partitions


class PartitionWriter:
    """Reads partitions of the source and writes the samples that are kept to a folder."""

    def __init__(self, options: Options, folder: str):
        self._options, self._folder = options, folder
        self._source = sources.open(options.source, options.split, options.keep)
        encode = records.encoder(options.resize, options.quality)
        self._reader = SampleReader(
            self._source, encode, options.keep, hashed=bool(options.exclude)
        )
        self._excluded: near_duplicates.Excluded | None = None
        if options.exclude:
            self._excluded = near_duplicates.Excluded(
                options.exclude, folder, options.exclude_distance
            )
        self._scores: np.ndarray | None = None
        if options.scores:
            split = options.source, options.split, self._source.num_examples
            self._scores = embeddings.scores(options.scores, *split)

    def write(self, partition: Partition) -> None:
        """Makes the two files of a partition unless they exist."""
        if storage.exists(index_path(self._folder, partition.number)):
            return
        counters, entries = Counters(), []
        rows = np.arange(partition.row, partition.row + partition.length)
        keys = index.keys(rows, self._source.num_examples, self._options.seed)
        path = _records_path(self._folder, partition.number)
        shard = self._source.shards[partition.shard]
        with storage.whole(path) as part, storage.open(part, "wb") as file:
            file.write(b"")  # creates the file even if nothing is kept
            block = _Block(file, partition.number)
            samples = self._reader.read(partition.shard, partition.start, partition.length)
            for row, key, sample in zip(rows, keys, samples, strict=True):
                score = None if self._scores is None else float(self._scores[row])
                reason, captions = drop_reason(sample, self._options, score, self._excluded)
                if reason:
                    counters.add(DROPPED + reason, rows=[int(row)])
                    continue
                entries += block.add(self._stored(sample, captions, shard, int(row), int(key)))
            entries += block.flush()
        content = io.BytesIO()
        entry_X = np.concatenate(entries)
        np.savez(content, facts=entry_X, tally=np.array(json.dumps(counters.as_dict())))
        storage.write(index_path(self._folder, partition.number), content.getvalue())

    def _stored(
        self, sample: Sample, captions: tuple[bytes, ...], shard: sources.Shard, row: int, key: int
    ) -> "_Stored":
        identity = sample.id or f"{shard.name}/{shard.start + sample.row}".encode()
        parts = [] if self._options.duplicates == "image" else captions
        return _Stored(
            key=key,
            row=row,
            digest=digest(sample.image, *parts),
            record=records.record(sample.stored, captions, identity, sample.features),
            anew=sample.stored != sample.image,
            left_out=len(sample.captions) - len(captions),
        )


@dataclass(frozen=True, order=True)
class _Stored:
    """A record with the fields of its entry, see `index.ENTRY`."""

    key: int
    row: int
    digest: bytes
    record: bytes
    anew: bool
    left_out: int


class _Block:
    """Records that wait to be sorted by key and written."""

    def __init__(self, file: BinaryIO, partition: int):
        self._file, self._partition = file, partition
        self._waiting: list[_Stored] = []
        self._size = self._offset = 0

    def add(self, stored: _Stored) -> list[np.ndarray]:
        """Takes a record; returns the entries of records that were written."""
        self._waiting.append(stored)
        self._size += len(stored.record)
        return self.flush() if self._size >= BLOCK else []

    def flush(self) -> list[np.ndarray]:
        """Writes the waiting records; returns their entries."""
        written = np.zeros(len(self._waiting), index.ENTRY)
        for entry, stored in zip(written, sorted(self._waiting), strict=True):
            self._file.write(stored.record)
            entry["row"], entry["key"], entry["piece"] = stored.row, stored.key, self._partition
            entry["offset"], entry["length"] = self._offset, len(stored.record)
            entry["crc"] = zlib.crc32(stored.record)
            entry["digest"] = np.frombuffer(stored.digest, "<u8")
            entry["anew"], entry["left_out"] = stored.anew, stored.left_out
            self._offset += len(stored.record)
        self._waiting, self._size = [], 0
        return [written]


def read_index(folder: str, number: int) -> tuple[np.ndarray, Counters]:
    """Entries and counters of a finished partition."""
    data = storage.read(index_path(folder, number))
    content = np.load(io.BytesIO(data), allow_pickle=False)
    return content["facts"], Counters.from_dict(json.loads(content["tally"].item()))


def read_records(folder: str, entry_X: np.ndarray) -> list[bytes]:
    """Records of finished partitions, in the order of their entries; they must be unchanged."""
    by_place: dict[int, bytes] = {}
    for number in np.unique(entry_X["piece"]):
        places = np.flatnonzero(entry_X["piece"] == number)
        places = places[np.argsort(entry_X["offset"][places])]
        path = _records_path(folder, int(number))
        for run in _runs(entry_X[places]):
            run_records = _read_run(path, entry_X[places[run]])
            by_place |= zip(places[run].tolist(), run_records, strict=True)
    return [by_place[place] for place in range(len(entry_X))]


def _runs(entry_X: np.ndarray) -> Iterator[slice]:
    """Entries whose records lie end to end in the file of their partition."""
    ends = entry_X["offset"] + entry_X["length"]
    breaks = np.flatnonzero(entry_X["offset"][1:] != ends[:-1]) + 1
    for start, stop in zip([0, *breaks], [*breaks, len(entry_X)], strict=True):
        yield slice(start, stop)


def _read_run(path: str, entry_X: np.ndarray) -> Iterator[bytes]:
    """The records of one run."""
    start = int(entry_X["offset"][0])
    content = storage.read(path, start, int(entry_X["length"].sum()))
    for entry in entry_X:
        begin = int(entry["offset"]) - start
        record = content[begin : begin + int(entry["length"])]
        if zlib.crc32(record) != entry["crc"]:
            raise DataError(
                f"{path} has changed since it was written, at byte {entry['offset']}; delete "
                f"the folder of the unfinished dataset and start again"
            )
        yield record


def _records_path(folder: str, number: int) -> str:
    return storage.join(folder, f"{number:06d}.records")


def index_path(folder: str, number: int) -> str:
    """The file with the index of a partition."""
    return storage.join(folder, f"{number:06d}.npz")


@functools.lru_cache(maxsize=2)  # Beam makes its workers' objects anew for every bundle
def writer(options: Options, folder: str) -> PartitionWriter:
    """The writer of this process."""
    return PartitionWriter(options, folder)

"""The input in pieces: each is read once, and what is kept of it lies ready, sorted.

A piece's records, as the dataset will have them, are in one file: sorted by key in blocks of
bounded size, so that what a shard of the dataset needs lies together. Its facts are
in a second one, which comes last and so says that the piece is done.
"""

import functools
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from clipa_jax.data import sources
from clipa_jax.data.sources.base import Source
from clipa_jax.errors import DataError
from clipa_jax.prepare import files, storing
from clipa_jax.prepare import index as facts
from clipa_jax.prepare.counters import Tally
from clipa_jax.prepare.filters import drop_reason
from clipa_jax.prepare.options import Options
from clipa_jax.prepare.samples import Looker, Seen, digest

SIZE = 10_000  # samples of a piece, as many as img2dataset puts into a file
BLOCK = 256 * 2**20  # bytes of records held in memory before they are sorted and written
DROPPED = "dropped/"  # before the reasons among the counts


@dataclass(frozen=True)
class Piece:
    """Neighbouring samples of one shard of the source.

    Attributes:
      number: of the piece.
      shard: of the source, by its place in `source.shards`.
      start: in the shard.
      length: number of samples.
      row: of the first one, among all samples of the source.
    """

    number: int
    shard: int
    start: int
    length: int
    row: int


def cut(source: Source, size: int = SIZE) -> list[Piece]:
    """All pieces of a source, in its order."""
    pieces: list[Piece] = []
    row = 0
    for number, shard in enumerate(source.shards):
        for start in range(0, shard.length, size):
            length = min(size, shard.length - start)
            pieces.append(Piece(len(pieces), number, start, length, row))
            row += length
    return pieces


class Reader:
    """Reads pieces and writes what is kept of them.

    Args:
      options: of the dataset.
      folder: where the files of the pieces go.
    """

    def __init__(self, options: Options, folder: str):
        self._options, self._folder = options, folder
        self._source = sources.open(options.source, options.split, options.keep)
        encode = storing.encoder(options.resize, options.quality)
        self._looker = Looker(self._source, encode, options.keep)

    def read(self, piece: Piece) -> None:
        """Makes the two files of a piece, unless they are there."""
        if is_done(self._folder, piece.number):
            return
        tally, found = Tally(), []
        rows = np.arange(piece.row, piece.row + piece.length)
        keys = facts.keys(rows, self._source.num_examples, self._options.seed)
        path = records_path(self._folder, piece.number)
        shard = self._source.shards[piece.shard]
        with files.whole(path) as part, tf.io.gfile.GFile(part, "wb") as file:
            file.write(b"")  # the file is there even if nothing is kept
            block = _Block(file, piece.number)
            seen = self._looker.look(piece.shard, piece.start, piece.length)
            for row, key, sample in zip(rows, keys, seen, strict=True):
                reason, captions = drop_reason(sample, self._options)
                if reason:
                    tally.add(DROPPED + reason, rows=[int(row)])
                    continue
                found += block.add(self._stored(sample, captions, shard, int(row), int(key)))
            found += block.flush()
        _write_facts(facts_path(self._folder, piece.number), found, tally)

    def _stored(
        self, sample: Seen, captions: tuple[bytes, ...], shard: sources.Shard, row: int, key: int
    ) -> "_Stored":
        """What is stored of a sample."""
        identity = sample.id or f"{shard.name}/{shard.start + sample.row}".encode()
        parts = [] if self._options.duplicates == "image" else captions
        return _Stored(
            key=key,
            row=row,
            digest=digest(sample.image, *parts),
            record=storing.record(sample.stored, captions, identity, sample.features),
            anew=sample.stored != sample.image,
            left_out=len(sample.captions) - len(captions),
        )


@dataclass(frozen=True, order=True)
class _Stored:
    """A record and what its fact will say, see `facts.FACT`."""

    key: int
    row: int
    digest: bytes
    record: bytes
    anew: bool
    left_out: int


class _Block:
    """Records that wait to be sorted by key and written."""

    def __init__(self, file: tf.io.gfile.GFile, piece: int):
        self._file, self._piece = file, piece
        self._waiting: list[_Stored] = []
        self._size = self._offset = 0

    def add(self, stored: _Stored) -> list[np.ndarray]:
        """Takes a record; returns the facts of what was written."""
        self._waiting.append(stored)
        self._size += len(stored.record)
        return self.flush() if self._size >= BLOCK else []

    def flush(self) -> list[np.ndarray]:
        """Writes what waits; returns its facts."""
        written = np.zeros(len(self._waiting), facts.FACT)
        for fact, stored in zip(written, sorted(self._waiting), strict=True):
            self._file.write(stored.record)
            fact["row"], fact["key"], fact["piece"] = stored.row, stored.key, self._piece
            fact["offset"], fact["length"] = self._offset, len(stored.record)
            fact["crc"] = zlib.crc32(stored.record)
            fact["digest"] = np.frombuffer(stored.digest, "<u8")
            fact["anew"], fact["left_out"] = stored.anew, stored.left_out
            self._offset += len(stored.record)
        self._waiting, self._size = [], 0
        return [written]


def read_facts(folder: str, number: int) -> tuple[np.ndarray, Tally]:
    """What is known of a finished piece."""
    with tf.io.gfile.GFile(facts_path(folder, number), "rb") as file:
        content = np.load(io.BytesIO(file.read()), allow_pickle=False)
    return content["facts"], Tally.from_dict(json.loads(content["tally"].item()))


def read_records(folder: str, fact_X: np.ndarray) -> list[bytes]:
    """Records of finished pieces, in the order of their facts.

    Raises:
      DataError: a file was changed.
    """
    found: dict[int, bytes] = {}
    for number in np.unique(fact_X["piece"]):
        mine = np.flatnonzero(fact_X["piece"] == number)
        mine = mine[np.argsort(fact_X["offset"][mine])]
        with tf.io.gfile.GFile(records_path(folder, int(number)), "rb") as file:
            for run in _runs(fact_X[mine]):
                found |= zip(mine[run].tolist(), _cut(file, fact_X[mine[run]]), strict=True)
    return [found[index] for index in range(len(fact_X))]


def _write_facts(path: str, found: list[np.ndarray], tally: Tally) -> None:
    content = io.BytesIO()
    fact_X = np.concatenate(found) if found else np.zeros(0, facts.FACT)
    np.savez(content, facts=fact_X, tally=np.array(json.dumps(tally.as_dict())))
    with files.whole(path) as part, tf.io.gfile.GFile(part, "wb") as file:
        file.write(content.getvalue())


def _runs(fact_X: np.ndarray) -> Iterator[slice]:
    """Neighbouring facts whose records lie end to end in the file of their piece."""
    ends = fact_X["offset"] + fact_X["length"]
    breaks = np.flatnonzero(fact_X["offset"][1:] != ends[:-1]) + 1
    for start, stop in zip([0, *breaks], [*breaks, len(fact_X)], strict=True):
        yield slice(start, stop)


def _cut(file: tf.io.gfile.GFile, fact_X: np.ndarray) -> Iterator[bytes]:
    """The records of one such run."""
    start = int(fact_X["offset"][0])
    file.seek(start)
    content = file.read(int(fact_X["length"].sum()))
    for fact in fact_X:
        begin = int(fact["offset"]) - start
        record = content[begin : begin + int(fact["length"])]
        if zlib.crc32(record) != fact["crc"]:
            raise DataError(
                f"{file.name} is not as it was written, at byte {fact['offset']}; delete "
                f"the folder of the unfinished dataset and start again"
            )
        yield record


def is_done(folder: str, number: int) -> bool:
    """Whether a piece is finished."""
    return tf.io.gfile.exists(facts_path(folder, number))


def records_path(folder: str, number: int) -> str:
    """The file with a piece's records."""
    return files.join(folder, f"{number:06d}.records")


def facts_path(folder: str, number: int) -> str:
    """The file with a piece's facts."""
    return files.join(folder, f"{number:06d}.npz")


@functools.lru_cache(maxsize=2)  # Beam makes its workers' objects anew for every bundle
def reader(options: Options, folder: str) -> Reader:
    """The reader of this process."""
    return Reader(options, folder)

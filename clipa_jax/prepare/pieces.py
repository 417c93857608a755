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
from clipa_jax.prepare import facts, files, storing
from clipa_jax.prepare.filters import drop_reason
from clipa_jax.prepare.options import Options
from clipa_jax.prepare.samples import Looker, Seen, digest
from clipa_jax.prepare.tally import Tally

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
        self._source = sources.open(options.source, options.split)
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
            block = _Block(file, piece.number)
            seen = self._looker.look(shard, piece.start, piece.length)
            for row, key, sample in zip(rows, keys, seen, strict=True):
                reason, captions = drop_reason(sample, self._options)
                if reason:
                    tally.add(DROPPED + reason, rows=[int(row)])
                    continue
                tally.add("captions_left_out", len(sample.captions) - len(captions))
                tally.add("encoded_anew", int(sample.stored != sample.image))
                content, record = self._stored(sample, captions, shard)
                found += block.add(int(row), int(key), content, record)
            found += block.flush()
        _write_facts(facts_path(self._folder, piece.number), found, tally)

    def _stored(
        self, sample: Seen, captions: tuple[bytes, ...], shard: sources.Shard
    ) -> tuple[bytes, bytes]:
        """The digest of what may be there only once, and the record."""
        identity = sample.id or f"{shard.name}/{shard.start + sample.row}".encode()
        parts = [] if self._options.duplicates == "image" else captions
        record = storing.record(sample.stored, captions, identity, sample.features)
        return digest(sample.image, *parts), record


class _Block:
    """Records that wait to be sorted by key and written."""

    def __init__(self, file: tf.io.gfile.GFile, piece: int):
        self._file, self._piece = file, piece
        self._waiting: list[tuple[int, int, bytes, bytes]] = []
        self._size = self._offset = 0

    def add(self, row: int, key: int, content: bytes, record: bytes) -> list[np.ndarray]:
        """Takes a record; returns the facts of what was written."""
        self._waiting.append((key, row, content, record))
        self._size += len(record)
        return self.flush() if self._size >= BLOCK else []

    def flush(self) -> list[np.ndarray]:
        """Writes what waits; returns its facts."""
        written = np.zeros(len(self._waiting), facts.FACT)
        for fact, (key, row, content, record) in zip(written, sorted(self._waiting), strict=True):
            self._file.write(record)
            fact["row"], fact["key"], fact["piece"] = row, key, self._piece
            fact["offset"], fact["length"] = self._offset, len(record)
            fact["crc"], fact["digest"] = zlib.crc32(record), np.frombuffer(content, "<u8")
            self._offset += len(record)
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

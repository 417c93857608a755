"""The order of training samples: a function of seed, epoch, source, and the settings of lanes.

Samples are counted through the whole run, over epochs and hosts: sample `count` belongs
to epoch `count // N` of N samples, and every epoch has each sample once. A batch takes the
next B counts, so it may span two epochs, and the position of a run is one number. Host h
of H takes rows [h B/H, (h+1) B/H) of every batch, so all hosts have the same load.

Two orders: `GlobalOrder` for data in memory or with random access, any sample anywhere;
`LaneOrder` for files that are read from start to end.

X counts, S shards, K lanes, N samples of an epoch.
"""

import functools
import hashlib
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from clipa_jax.data import shuffle
from clipa_jax.data.sources.base import Source


class Order(Protocol):
    """An order of samples; its lanes must divide the batch size."""

    @property
    def lanes(self) -> int: ...

    @property
    def fingerprint(self) -> str:
        """Differs for other data, seeds or settings."""

    def rows(self, batch_size: int) -> np.ndarray:
        """The count of each row of a batch, less that of the batch's first sample."""

    def locate(self, count_X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The shard of each sample and its index there, int64 (X,) both."""


@dataclass(frozen=True, eq=False)
class Shards:
    """The names and lengths of a source's shards, in a fixed order."""

    name: str
    length_S: np.ndarray

    @classmethod
    def of(cls, source: Source) -> "Shards":
        """The shards of a source; their folder does not matter."""
        names = "\n".join(shard.name for shard in source.shards)
        lengths = np.array([shard.length for shard in source.shards], np.int64)
        return cls(names, lengths)

    @functools.cached_property
    def total(self) -> int:
        """Samples of an epoch."""
        return int(self.length_S.sum())

    def digest(self, *settings: object) -> str:
        """A short name for these shards together with `settings`."""
        text = repr((self.name, self.length_S.tolist(), settings))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class FileOrder:
    """The order of the files."""

    lanes: ClassVar[int] = 1
    shards: Shards

    @property
    def fingerprint(self) -> str:
        return self.shards.digest("files")

    def rows(self, batch_size: int) -> np.ndarray:
        return np.arange(batch_size)

    def locate(self, count_X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return _cut(count_X % self.shards.total, self.shards.length_S)


@dataclass(frozen=True, eq=False)
class GlobalOrder(FileOrder):
    """Every epoch is one permutation of all samples."""

    seed: int

    @property
    def fingerprint(self) -> str:
        return self.shards.digest("global", self.seed)

    def locate(self, count_X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        epoch_X, place_X = np.divmod(count_X, self.shards.total)
        keys_X = shuffle.keys(shuffle.key(self.seed), epoch_X)
        place_X = shuffle.permute(place_X, self.shards.total, keys_X)
        return _cut(place_X, self.shards.length_S)


@dataclass(frozen=True, eq=False)
class LaneOrder:
    """Shards in random order, read in K lanes side by side, each mixed inside a window.

    An epoch lays the shards end to end, in an order of its own, and cuts this row into K
    lanes of equal length (give or take one). Sample `count` is the next one of lane
    `count % K`; a batch of B has B/K rows of each lane, lane after lane, so a host reads
    only the lanes of its rows. Inside a lane, windows of neighboring samples are permuted;
    the first window of lane k is (k+1)/K as long, so that windows do not end all at once.
    """

    shards: Shards
    seed: int
    lanes: int  # K
    window: int  # samples of a window, of one lane

    @property
    def fingerprint(self) -> str:
        return self.shards.digest("lanes", self.seed, self.lanes, self.window)

    def rows(self, batch_size: int) -> np.ndarray:
        return np.arange(batch_size).reshape(-1, self.lanes).T.ravel()

    def locate(self, count_X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shard_X, index_X = np.empty((2, len(count_X)), np.int64)
        lane_X, epoch_X = count_X % self.lanes, count_X // self.shards.total
        for lane, epoch in {*zip(lane_X.tolist(), epoch_X.tolist(), strict=True)}:
            rows = (lane_X == lane) & (epoch_X == epoch)
            first, begin, _ = self._lane(lane, epoch)
            place = (count_X[rows] - first) // self.lanes
            base, size, number = self._windows(lane, epoch, place)
            keys = shuffle.keys(self._key(lane, epoch), number)
            inside = shuffle.permute(place - base, size, keys)
            shard_X[rows], index_X[rows] = self._in_shards(epoch, begin + base + inside)
        return shard_X, index_X

    def start(self, lane: int, count: int) -> tuple[int, int]:
        """The epoch, and the place in the lane's part of it, of the lane's first sample from
        `count` on."""
        count += (lane - count) % self.lanes
        epoch = count // self.shards.total
        return epoch, (count - self._lane(lane, epoch)[0]) // self.lanes

    def runs(self, lane: int, epoch: int, place: int) -> np.ndarray:
        """The runs that a lane reads of an epoch, from the window of `place` on: int64 (runs, 3),
        base, number of samples, samples of a window. The last window of a run may be shorter."""
        _, _, length = self._lane(lane, epoch)
        first = min(self._first_window(lane), length)
        if place < first:
            runs = [(0, first, first), (first, length - first, self.window)]
        else:
            base = first + (place - first) // self.window * self.window
            runs = [(base, length - base, self.window)]
        return np.array([run for run in runs if run[1] > 0], np.int64).reshape(-1, 3)

    def pieces(self, lane: int, epoch: int, base: int, length: int) -> np.ndarray:
        """Where the samples [base, base + length) of a lane's epoch lie before windows are
        permuted: int64 (pieces, 3), each a shard, the first index, and how many."""
        _, begin, _ = self._lane(lane, epoch)
        order_S, ends_S = self._epoch(epoch)
        place, stop, pieces = begin + base, begin + base + length, []
        for row in range(int(np.searchsorted(ends_S, place, side="right")), len(ends_S)):
            if place >= stop:
                break
            size = self.shards.length_S[order_S[row]]
            until = min(stop, int(ends_S[row]))
            if until > place:
                pieces.append((order_S[row], place - (ends_S[row] - size), until - place))
            place = until
        return np.array(pieces, np.int64).reshape(-1, 3)

    def permutation(self, lane: int, epoch: int, base: int, size: int) -> np.ndarray:
        """The order of the window of `size` samples that begins at `base`: int64 (size,)."""
        _, _, number = self._windows(lane, epoch, np.array([base]))
        keys = shuffle.keys(self._key(lane, epoch), number)
        return shuffle.permute(np.arange(size), size, keys[0])

    def _key(self, lane: int, epoch: int) -> np.uint64:
        return shuffle.key(self.seed, epoch, lane)

    def _first_window(self, lane: int) -> int:
        return -(-self.window * (lane + 1) // self.lanes)

    def _lane(self, lane: int, epoch: int) -> tuple[int, int, int]:
        """The lane's first count of an epoch, where it begins in the row, and its length."""
        start = epoch * self.shards.total
        first_K = start + (np.arange(self.lanes) - start) % self.lanes
        length_K = np.maximum(-(-(start + self.shards.total - first_K) // self.lanes), 0)
        return int(first_K[lane]), int(length_K[:lane].sum()), int(length_K[lane])

    def _windows(self, lane: int, epoch: int, place_X: np.ndarray):
        """Of places of a lane: their window's base, its size and its number, int64 (X,)."""
        _, _, length = self._lane(lane, epoch)
        first = self._first_window(lane)
        number_X = np.where(place_X < first, 0, 1 + (place_X - first) // self.window)
        base_X = np.where(number_X == 0, 0, first + (number_X - 1) * self.window)
        full_X = np.where(number_X == 0, first, self.window)
        return base_X, np.minimum(full_X, length - base_X), number_X

    @functools.lru_cache(maxsize=4)  # noqa: B019 (an order lives as long as its pipeline)
    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The order of the shards, and where each ends in the row."""
        size = len(self.shards.length_S)
        key = shuffle.key(self.seed, epoch, -1)
        order_S = shuffle.permute(np.arange(size), size, key)
        return order_S, np.cumsum(self.shards.length_S[order_S])

    def _in_shards(self, epoch: int, place_X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        order_S, _ = self._epoch(epoch)
        row_X, index_X = _cut(place_X, self.shards.length_S[order_S])
        return order_S[row_X], index_X


def _cut(place_X: np.ndarray, length_S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places in shards laid end to end -> the shard and the index in it."""
    ends_S = np.cumsum(length_S)
    shard_X = np.searchsorted(ends_S, place_X, side="right")
    return shard_X, place_X - (ends_S - length_S)[shard_X]

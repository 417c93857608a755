"""The files of a prepared dataset: which split and shard each sample belongs to."""

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from clipa_jax.prepare.counters import Counters
from clipa_jax.prepare.options import Options

WRITTEN, RECORD_BYTES = "written", "record_bytes"


@dataclass(frozen=True)
class Split:
    """One split: its samples in all of its files."""

    name: str
    samples: int
    num_shards: int

    @property
    def lengths(self) -> list[int]:
        """Samples of each shard; they differ by one at most."""
        ends = [-(-n * self.samples // self.num_shards) for n in range(self.num_shards + 1)]
        return [stop - start for start, stop in itertools.pairwise(ends)]


@dataclass(frozen=True)
class Layout:
    """All files of a dataset; shards are numbered through the splits."""

    stem: str  # name of the dataset
    file_format: str
    splits: tuple[Split, ...]  # that have samples; the first ranks are in the first one

    @classmethod
    def plan(cls, options: Options, counters: Counters) -> "Layout":
        """The layout for the samples that are kept."""
        kept, size = counters[WRITTEN], counters[RECORD_BYTES]
        wanted = options.num_shards or -(-size // int(options.shard_mb * 2**20))
        num_shards = max(min(wanted, kept), 1)
        held_out = min(max(round(options.holdout * kept), 1), kept - 1) if options.holdout else 0
        splits = [
            Split(options.into, kept - held_out, min(num_shards, kept - held_out)),
            Split(options.holdout_into, held_out, -(-num_shards * held_out // max(kept, 1))),
        ]
        split = tuple(split for split in splits if split.samples > 0)
        return cls(options.name, options.file_format, split)

    @property
    def kept(self) -> int:
        """Samples of the dataset."""
        return sum(split.samples for split in self.splits)

    @cached_property
    def lengths(self) -> list[int]:
        """Samples of each shard."""
        return [length for split in self.splits for length in split.lengths]

    @cached_property
    def file_names(self) -> list[str]:
        """The names that TFDS gives to the files of the shards."""
        return [
            f"{self.stem}-{split.name}.{self.file_format}-{shard:05d}-of-{split.num_shards:05d}"
            for split in self.splits
            for shard in range(split.num_shards)
        ]

    def shards(self, rank_X: np.ndarray) -> np.ndarray:
        """The shards of samples by their rank in the shuffled dataset, int64 (X,)."""
        stops = np.cumsum(self.lengths)
        return np.searchsorted(stops, rank_X, side="right")

"""Keys, ranks, duplicates and shards, as arrays."""

import numpy as np
import pytest

from clipa_jax.prepare import index
from clipa_jax.prepare.counters import Counters
from clipa_jax.prepare.layout import RECORD_BYTES, WRITTEN, Layout
from clipa_jax.prepare.options import Options


def entries(total: int, kept: int, seed: int = 0) -> np.ndarray:
    """Entries of `kept` of `total` rows."""
    row_X = np.sort(np.random.default_rng(seed).permutation(total)[:kept])
    entry_X = np.zeros(kept, index.ENTRY)
    entry_X["row"], entry_X["key"] = row_X, index.keys(row_X, total, seed)
    entry_X["digest"] = np.random.default_rng(seed).integers(0, 2**63, (kept, 2))
    return entry_X


def plan(kept: int, size: int = 1, **options) -> Layout:
    """The layout for `kept` samples of `size` bytes together."""
    counters = Counters({WRITTEN: kept, RECORD_BYTES: size})
    return Layout.plan(Options("tfrecord:x", **options), counters)


def test_keys_are_a_permutation_that_depends_on_the_seed():
    first, second = (index.keys(np.arange(1_000), 1_000, seed) for seed in (0, 1))
    assert sorted(first) == sorted(second) == list(range(1_000))
    assert (first != second).mean() > 0.9
    neighbors = np.corrcoef(first[:-1], first[1:])[0, 1]
    assert abs(neighbors) < 0.1


@pytest.mark.parametrize(
    ("total", "kept", "num_shards"), [(1, 1, 1), (5, 5, 5), (300, 7, 3), (30_000, 23_450, 13)]
)
def test_shards_are_even_and_in_the_order_of_the_keys(total, kept, num_shards):
    entry_X = entries(total, kept)
    before, by_shard, layout = 0, {}, plan(kept, num_shards=num_shards)
    for _, part in sorted(index.by_key(entry_X, total)):
        bucket_X = index.join([part])
        for shard, content in index.by_shard(bucket_X, before, layout):
            by_shard.setdefault(shard, []).append(content)
        before += len(bucket_X)
    lengths = [len(index.join(by_shard[shard])) for shard in range(num_shards)]
    assert lengths == layout.lengths
    assert max(lengths) - min(lengths) <= 1
    joined = np.concatenate([index.join(by_shard[shard]) for shard in range(num_shards)])
    assert joined["key"].tolist() == sorted(entry_X["key"])


def test_buckets_follow_the_order_of_the_keys():
    total = 10_000_000
    buckets = index.bucket(np.arange(0, total, 100), total)
    assert buckets[0] == 0 and buckets[-1] == index.BUCKETS - 1
    assert (np.diff(buckets) >= 0).all()


def test_the_first_duplicate_in_the_order_of_the_input_is_kept():
    entry_X = entries(50, 40)
    entry_X["digest"][[3, 30, 11]] = 7, 7
    entry_X["digest"][12] = 7, 8  # the same bucket, not the same digest
    shuffled = np.random.default_rng(1).permutation(entry_X)
    parts = list(index.by_digest(shuffled))
    firsts, again = zip(
        *(index.split_duplicates(index.join([part])) for _, part in parts), strict=True
    )
    dropped = np.concatenate(again)["row"]
    assert sorted(dropped) == sorted(entry_X["row"][[11, 30]])
    assert sorted(np.concatenate(firsts)["row"]) == sorted(set(entry_X["row"]) - set(dropped))


def test_empty_arrays_give_no_groups():
    nothing = np.zeros(0, index.ENTRY)
    assert list(index.by_digest(nothing)) == []
    assert list(index.by_key(nothing, 10)) == []
    assert [len(part) for part in index.split_duplicates(nothing)] == [0, 0]


@pytest.mark.parametrize(
    ("num_shards", "shard_mb", "kept", "size", "expected"),
    [
        (0, 1.0, 100, 3 * 2**20 + 1, 4),
        (0, 1.0, 2, 2**30, 2),
        (7, 1.0, 100, 5, 7),
        (7, 1.0, 3, 5, 3),
    ],
)
def test_the_number_of_shards(num_shards, shard_mb, kept, size, expected):
    layout = plan(kept, size, num_shards=num_shards, shard_mb=shard_mb)
    assert [split.num_shards for split in layout.splits] == [expected]


@pytest.mark.parametrize(
    ("kept", "holdout", "samples", "num_shards"),
    [(1_000, 0.02, [980, 20], [4, 1]), (10, 0.5, [5, 5], [4, 2]), (30, 0.001, [29, 1], [4, 1])],
)
def test_a_holdout_takes_the_last_samples_of_the_shuffle(kept, holdout, samples, num_shards):
    layout = plan(kept, num_shards=4, holdout=holdout)
    assert [split.samples for split in layout.splits] == samples
    assert [split.num_shards for split in layout.splits] == num_shards
    shard_X = layout.shards(np.arange(kept))
    assert np.bincount(shard_X).tolist() == layout.lengths
    assert (np.diff(shard_X) >= 0).all()
    assert layout.file_names[0] == "pairs-train.tfrecord-00000-of-00004"
    assert layout.file_names[-1].startswith("pairs-validation.tfrecord-")

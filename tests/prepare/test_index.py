"""Keys, ranks and duplicates, as arrays."""

import numpy as np
import pytest

from clipa_jax.prepare import index, shards
from clipa_jax.prepare.options import Options


def some(total: int, kept: int, seed: int = 0) -> np.ndarray:
    """Facts of `kept` of `total` rows."""
    row_X = np.sort(np.random.default_rng(seed).permutation(total)[:kept])
    fact_X = np.zeros(kept, index.FACT)
    fact_X["row"], fact_X["key"] = row_X, index.keys(row_X, total, seed)
    fact_X["digest"] = np.random.default_rng(seed).integers(0, 2**63, (kept, 2))
    return fact_X


def test_keys_are_a_permutation_of_the_rows_that_the_seed_chooses():
    first, second = (index.keys(np.arange(1_000), 1_000, seed) for seed in (0, 1))
    assert sorted(first) == sorted(second) == list(range(1_000))
    assert (first != second).mean() > 0.9
    neighbours = np.corrcoef(first[:-1], first[1:])[0, 1]
    assert abs(neighbours) < 0.1


@pytest.mark.parametrize(
    ("total", "kept", "num_shards"), [(1, 1, 1), (5, 5, 5), (300, 7, 3), (3_000, 2_345, 13)]
)
def test_ranks_from_buckets_deal_out_all_samples_evenly_in_the_order_of_their_keys(
    total, kept, num_shards
):
    fact_X = some(total, kept)
    before, found = 0, {}
    for _, part in sorted(index.by_key(fact_X, total)):
        here = index.join([part])
        for shard, content in index.by_shard(here, before, kept, num_shards):
            found.setdefault(shard, []).append(content)
        before += len(here)
    lengths = [len(index.join(found[shard])) for shard in range(num_shards)]
    assert lengths == shards.lengths(kept, num_shards)
    assert max(lengths) - min(lengths) <= 1
    joined = np.concatenate([index.join(found[shard]) for shard in range(num_shards)])
    assert joined["key"].tolist() == sorted(fact_X["key"])


def test_there_are_few_buckets_and_keys_in_them_are_neighbours():
    keys = np.arange(100_000)
    buckets = index.bucket(keys, 100_000)
    assert buckets[0] == 0 and buckets[-1] == index.BUCKETS - 1
    assert (np.diff(buckets) >= 0).all()


def test_the_first_of_each_digest_in_the_order_of_the_input_stays():
    fact_X = some(50, 40)
    fact_X["digest"][[3, 30, 11]] = 7, 7
    fact_X["digest"][12] = 7, 8  # the same bucket, not the same digest
    shuffled = np.random.default_rng(1).permutation(fact_X)
    parts = list(index.by_digest(shuffled))
    firsts, again = zip(*(index.first_ones(index.join([part])) for _, part in parts), strict=True)
    dropped = np.concatenate(again)["row"]
    assert sorted(dropped) == sorted(fact_X["row"][[11, 30]])
    assert sorted(np.concatenate(firsts)["row"]) == sorted(set(fact_X["row"]) - set(dropped))


def test_nothing_is_no_trouble():
    nothing = np.zeros(0, index.FACT)
    assert list(index.by_digest(nothing)) == []
    assert list(index.by_key(nothing, 10)) == []
    assert [len(part) for part in index.first_ones(nothing)] == [0, 0]


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
    options = Options("tfrecord:x", num_shards=num_shards, shard_mb=shard_mb)
    assert shards.how_many(options, kept, size) == expected

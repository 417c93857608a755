"""The order of samples: whole epochs, in numbers alone."""

import numpy as np
import pytest

from clipa_jax.data import pipeline, reading, shuffle
from clipa_jax.data.order import GlobalOrder, LaneOrder, Shards

LENGTHS = np.array([13, 0, 9, 170, 11, 1])


def shards(lengths=LENGTHS) -> Shards:
    return Shards("test", np.asarray(lengths, np.int64))


def flat(order, counts) -> np.ndarray:
    shard, index = order.locate(np.asarray(counts, np.int64))
    assert (index >= 0).all() and (index < order.shards.length_S[shard]).all()
    return np.concatenate([[0], np.cumsum(order.shards.length_S)])[shard] + index


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 65, 1000])
def test_permutations_are_permutations(size):
    for key in (shuffle.key(0), shuffle.key(1, -2, 3)):
        assert sorted(shuffle.permute(np.arange(size), size, key)) == list(range(size))


def test_permutations_look_random():
    size = 10_000
    a = shuffle.permute(np.arange(size), size, shuffle.key(1, 0))
    b = shuffle.permute(np.arange(size), size, shuffle.key(1, 1))
    for order in (a, b):
        assert abs(np.corrcoef(np.arange(size), order)[0, 1]) < 0.04
        assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.04
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.04
    assert (a == np.arange(size)).sum() < 10


def test_permutation_asked_for_in_parts_is_the_same():
    whole = shuffle.permute(np.arange(100), 100, shuffle.key(5))
    sizes, keys = np.array([100, 7]), np.array([shuffle.key(5), shuffle.key(6)])
    mixed = shuffle.permute(np.array([42, 3]), sizes, keys)
    assert mixed[0] == whole[42]
    assert mixed[1] == shuffle.permute(np.arange(7), 7, shuffle.key(6))[3]


@pytest.mark.parametrize("lanes", [1, 4, 16])
@pytest.mark.parametrize("window", [1, 5, 1000])
def test_lane_order_has_each_sample_once_an_epoch(lanes, window):
    order = LaneOrder(shards(), seed=3, lanes=lanes, window=window)
    total = int(LENGTHS.sum())
    epochs = [flat(order, np.arange(e * total, (e + 1) * total)) for e in range(3)]
    for places in epochs:
        assert sorted(places) == list(range(total))
    assert not np.array_equal(epochs[0], epochs[1])


def test_more_lanes_than_samples():
    order = LaneOrder(shards([2, 1]), seed=0, lanes=8, window=4)
    assert sorted(flat(order, np.arange(3))) == [0, 1, 2]
    assert sorted(flat(order, np.arange(3, 6))) == [0, 1, 2]


def test_global_order_has_each_sample_once_an_epoch():
    order, total = GlobalOrder(shards(), seed=3), int(LENGTHS.sum())
    first, second = (flat(order, np.arange(e * total, (e + 1) * total)) for e in range(2))
    assert sorted(first) == sorted(second) == list(range(total))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, flat(GlobalOrder(shards(), seed=4), np.arange(total)))


def test_lane_order_reads_files_from_start_to_end():
    # Without windows, each lane walks through the files as they lie.
    order = LaneOrder(shards(), seed=0, lanes=4, window=1)
    total = int(LENGTHS.sum())
    for lane in range(4):
        places = flat(order, np.arange(lane, total, 4))
        starts = {0, *np.cumsum(LENGTHS).tolist()}
        assert all(b == a + 1 or b in starts for a, b in zip(places[:-1], places[1:], strict=True))


def test_windows_mix_neighbours_only():
    order = LaneOrder(shards([100_000]), seed=0, lanes=2, window=100)
    places = flat(order, np.arange(0, 20_000, 2))
    moved = np.abs(places - np.arange(10_000))
    assert 20 < moved.mean() < 50 and moved.max() < 100


def test_rows_of_a_batch_go_lane_after_lane():
    order = LaneOrder(shards(), seed=0, lanes=4, window=5)
    assert order.rows(8).tolist() == [0, 4, 1, 5, 2, 6, 3, 7]


def test_fingerprint_tells_orders_apart():
    orders = [
        LaneOrder(shards(), 0, 4, 5),
        LaneOrder(shards(), 1, 4, 5),
        LaneOrder(shards(), 0, 2, 5),
        LaneOrder(shards(), 0, 4, 6),
        LaneOrder(shards([1, 2]), 0, 4, 5),
        GlobalOrder(shards(), 0),
    ]
    assert len({order.fingerprint for order in orders}) == len(orders)
    assert LaneOrder(shards(), 0, 4, 5).fingerprint == orders[0].fingerprint


def read_per_used(batch_size, hosts, lanes):
    """Samples that all hosts read in an epoch, over its samples, if a file that a lane enters in
    its middle is read from its beginning."""
    order = LaneOrder(shards(np.full(10_000, 8_000)), seed=0, lanes=lanes, window=1)
    read = 0
    for host in range(hosts):
        for lane in reading.lanes_of(order, reading.Share.of(batch_size, host, hosts)):
            _, _, length = order._lane(lane, 0)
            pieces = order.pieces(lane, 0, 0, length)
            read += int(pieces[:, 1:].sum())
    return read / order.shards.total


@pytest.mark.parametrize("hosts", [1, 2, 4, 16, 24, 64, 128])
def test_by_default_hosts_read_little_more_than_they_use(hosts):
    batch_size = 65_536 if 65_536 % hosts == 0 else 49_152
    lanes = pipeline.default_lanes(batch_size, hosts)
    assert batch_size % lanes == 0 and 16 <= lanes <= 4 * max(hosts, 4)
    assert read_per_used(batch_size, hosts, lanes) <= 1.1


def test_fewer_lanes_than_hosts_are_read_by_several():
    assert read_per_used(65_536, 64, lanes=16) == pytest.approx(4.0, rel=0.1)

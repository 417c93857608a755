"""Batches on their way to the devices."""

import time

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from clipa_jax.data import to_device


@pytest.fixture
def sharding():
    return NamedSharding(Mesh(np.array(jax.devices()[:1]), ("data",)), PartitionSpec("data"))


def batches(count, delay=0.0):
    for number in range(count):
        time.sleep(delay)
        yield {"x": np.full((4, 2), number)}, {"samples": 4 * (number + 1)}


def test_order_values_and_end(sharding):
    with to_device.Prefetch(batches(5), sharding) as feed:
        items = list(feed)
    assert [int(batch["x"][0, 0]) for batch, _ in items] == list(range(5))
    assert [position["samples"] for _, position in items] == [4, 8, 12, 16, 20]
    assert all(
        isinstance(batch["x"], jax.Array) and batch["x"].shape == (4, 2) for batch, _ in items
    )
    assert items[0][0]["x"].sharding == sharding


def test_waiting_is_measured(sharding):
    with to_device.Prefetch(batches(3, delay=0.1), sharding) as feed:
        list(feed)
        assert 0.25 < feed.wait_seconds < 2
    with to_device.Prefetch(batches(2), sharding) as feed:
        time.sleep(0.3)
        next(feed)
        assert feed.wait_seconds < 0.1


def test_no_more_than_depth_ahead(sharding):
    made = []

    def counted():
        for number, item in enumerate(batches(100)):
            made.append(number)
            yield item

    with to_device.Prefetch(counted(), sharding, depth=2) as feed:
        next(feed)
        time.sleep(0.3)
        assert len(made) <= 4


def test_errors_come_through(sharding):
    def broken():
        yield from batches(2)
        raise KeyError("broken")

    with to_device.Prefetch(broken(), sharding) as feed:
        next(feed)
        next(feed)
        with pytest.raises(KeyError, match="broken"):
            next(feed)


def test_closing_stops_the_thread(sharding):
    feed = to_device.Prefetch(batches(10**6), sharding)
    next(feed)
    feed.close()
    assert not feed._thread.is_alive()
    with pytest.raises(StopIteration):
        next(feed)

"""Encoded samples in the order of training, in chunks: {"record": (n,), "count": (n,)}.

Both readers start anywhere without reading what comes before: from memory by index, from
files by opening each lane's file where it is needed.

B batch size, n samples of a chunk, K lanes.
"""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from clipa_jax.data.order import GlobalOrder, LaneOrder
from clipa_jax.data.sources.base import Source


@dataclass(frozen=True)
class Share:
    """The rows [begin, end) that one host has of each batch of `batch_size`, in chunks."""

    batch_size: int
    begin: int
    end: int
    chunk: int


def records(source: Source, path: tf.Tensor, start: tf.Tensor, length: tf.Tensor):
    """Exactly `length` records () of a file; what cannot be read is an empty string."""
    found = source.read(path, start, length).ignore_errors(log_warning=True)
    missing = tf.data.Dataset.from_tensors(tf.constant("")).repeat()
    return found.concatenate(missing).take(length)


def load(source: Source) -> tf.Tensor:
    """All records of a source, end to end, in memory: string (N,)."""
    return _all(source).batch(source.num_examples).get_single_element()


def once(source: Source, share: Share) -> tf.data.Dataset:
    """Chunks of one pass over the files in their order; the last batch is filled up with
    the first samples."""
    batches = -(-source.num_examples // share.batch_size)
    read = _all(source).repeat().batch(share.batch_size, drop_remainder=True)

    def cut(number: tf.Tensor, record_B: tf.Tensor) -> dict[str, tf.Tensor]:
        counts = number * share.batch_size + tf.range(share.begin, share.end, dtype=tf.int64)
        return _chunked(record_B[share.begin : share.end], counts, share)

    return read.take(batches).enumerate().map(cut).unbatch()


def _all(source: Source) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(_table(source)).flat_map(
        lambda path, start, length: records(source, path, start, length)
    )


def from_memory(
    record_N: tf.Tensor, order: GlobalOrder, count: int, share: Share
) -> tf.data.Dataset:
    """Chunks from memory, beginning with the batch that begins at `count`; never ends."""
    rows = order.rows(share.batch_size)[share.begin : share.end]

    def pick(first: tf.Tensor) -> dict[str, tf.Tensor]:
        counts = first + rows
        places = tf.numpy_function(order.flat, [counts], tf.int64, stateful=False)
        return _chunked(tf.gather(record_N, places), counts, share)

    return tf.data.Dataset.counter(count, share.batch_size, dtype=tf.int64).map(pick).unbatch()


def from_files(source: Source, order: LaneOrder, count: int, share: Share) -> tf.data.Dataset:
    """Chunks from files, beginning with the batch that begins at `count`; never ends."""
    block = share.batch_size // order.lanes
    lanes = range(share.begin // block, -(-share.end // block))
    counts = order.rows(share.batch_size)[share.begin : share.end]
    begin = share.begin - lanes[0] * block

    def cut(record_R: tf.Tensor, first: tf.Tensor) -> dict[str, tf.Tensor]:
        mine = record_R[begin : begin + share.end - share.begin]
        return _chunked(mine, first + counts, share)

    starts = [(lane, *order.start(lane, count)) for lane in lanes]
    read = tf.data.Dataset.from_tensor_slices(np.array(starts, np.int64)).interleave(
        lambda start: _lane(source, order, start),
        cycle_length=len(lanes),
        block_length=block,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    batches = read.batch(len(lanes) * block, drop_remainder=True)
    firsts = tf.data.Dataset.counter(count, share.batch_size, dtype=tf.int64)
    return tf.data.Dataset.zip(batches, firsts).map(cut).unbatch()


def _lane(source: Source, order: LaneOrder, start_3: tf.Tensor) -> tf.data.Dataset:
    """The records () of a lane from (epoch, place) on, for start = (lane, epoch, place)."""
    lane, first_epoch, first_place = start_3[0], start_3[1], start_3[2]
    path_S, start_S, _ = _table(source)
    path_S, start_S = tf.constant(path_S), tf.constant(start_S)

    def piece(piece_3: tf.Tensor) -> tf.data.Dataset:
        # Not `tf.unstack`: TensorFlow 2.21 crashes on a skip or take by one of several outputs.
        shard, start, length = piece_3[0], piece_3[1], piece_3[2]
        return records(source, path_S[shard], start_S[shard] + start, length)

    def run(epoch: tf.Tensor, run_3: tf.Tensor) -> tf.data.Dataset:
        base, length, window = run_3[0], run_3[1], run_3[2]
        pieces = _rows(order.pieces, lane, epoch, base, length)
        windows = tf.data.Dataset.from_tensor_slices(pieces).flat_map(piece).batch(window)

        def mix(number: tf.Tensor, record_W: tf.Tensor) -> tf.Tensor:
            places = [lane, epoch, base + number * window, tf.size(record_W, tf.int64)]
            order_W = tf.numpy_function(order.permutation, places, tf.int64, stateful=False)
            return tf.gather(record_W, tf.ensure_shape(order_W, [None]))

        return windows.enumerate().map(mix)

    def part(epoch: tf.Tensor) -> tf.data.Dataset:
        place = tf.where(epoch == first_epoch, first_place, tf.zeros_like(first_place))
        runs = tf.data.Dataset.from_tensor_slices(_rows(order.runs, lane, epoch, place))
        return runs.flat_map(lambda run_3: run(epoch, run_3))

    windows = tf.data.Dataset.counter(first_epoch, dtype=tf.int64).flat_map(part)
    # The next window is read while this one is used up.
    begin = tf.reduce_min(_rows(order.runs, lane, first_epoch, first_place)[:, 0])
    return windows.prefetch(1).unbatch().skip(first_place - begin)


def _rows(function, *args: tf.Tensor) -> tf.Tensor:
    """A function of whole numbers that gives int64 (rows, 3), inside a graph."""
    return tf.ensure_shape(
        tf.numpy_function(function, list(args), tf.int64, stateful=False), (None, 3)
    )


def _chunked(record_B: tf.Tensor, count_B: tf.Tensor, share: Share) -> dict[str, tf.Tensor]:
    shape = [(share.end - share.begin) // share.chunk, share.chunk]
    return {"record": tf.reshape(record_B, shape), "count": tf.reshape(count_B, shape)}


def _table(source: Source) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Paths, starts and lengths of the shards."""
    return (
        np.array([shard.path for shard in source.shards]),
        np.array([shard.start for shard in source.shards], np.int64),
        np.array([shard.length for shard in source.shards], np.int64),
    )

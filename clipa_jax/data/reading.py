"""Encoded samples in the order of training, in chunks: {"record": (n, F), "count": (n,)}.

All readers start at any sample: by index, where the format or memory allows it, else by opening
the file of each lane at its position. Only a TFRecord file without an index, of a `tfds:` source,
is read from its beginning up to there.

B batch size, n samples of a chunk, F strings of a record, K lanes, b = B / K records of each.
"""

import math
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from clipa_jax.data.mixing import MixedOrder
from clipa_jax.data.order import FileOrder, GlobalOrder, LaneOrder, Order, Shards
from clipa_jax.data.sources.base import Source
from clipa_jax.data.sources.mixture import Mixture
from clipa_jax.errors import DataError

CHUNK = 128  # samples preprocessed together: enough to share the overhead, few enough for caches
_BLOCK = 256  # draws of a mixture that are computed at once
_PICKED = 16  # samples of a lane that are read by index at once


@dataclass(frozen=True)
class Share:
    """The rows [begin, end) that one host has of each batch of `batch_size`, in chunks."""

    batch_size: int
    begin: int
    end: int
    chunk: int

    @classmethod
    def of(cls, batch_size: int, host: int, hosts: int) -> "Share":
        """The share of one of several hosts, which is the same for all."""
        if batch_size < 1 or batch_size % hosts:
            nearest = max(round(batch_size / hosts), 1) * hosts
            raise DataError(
                f"batch {batch_size} is not divisible by {hosts} hosts; nearest: {nearest}"
            )
        rows = batch_size // hosts
        return cls(batch_size, host * rows, (host + 1) * rows, math.gcd(rows, CHUNK))

    @property
    def chunks(self) -> int:
        """Chunks of a batch."""
        return (self.end - self.begin) // self.chunk


def chunks(source: Source, order: Order, count: int, share: Share) -> tf.data.Dataset:
    """Chunks in the order of training from the batch that begins at `count` on; never ends."""
    if isinstance(order, GlobalOrder):
        return _by_index(source, order, count, share)
    assert isinstance(order, LaneOrder | MixedOrder)
    return _by_lanes(source, order, count, share)


def once(source: Source, share: Share, start: int = 0) -> tf.data.Dataset:
    """Chunks of one pass over the files in their order, from the sample at `start` on; the last
    batch is filled up with the first samples."""
    batches = -(-(source.num_examples - start) // share.batch_size)
    read = everything(source, start).concatenate(everything(source).repeat())
    read = read.batch(share.batch_size, drop_remainder=True)

    def cut(number: tf.Tensor, record_BF: tf.Tensor) -> dict[str, tf.Tensor]:
        first = start + number * share.batch_size
        counts = first + tf.range(share.begin, share.end, dtype=tf.int64)
        shape, record_RF = [share.chunks, share.chunk], record_BF[share.begin : share.end]
        return {
            "record": tf.reshape(record_RF, [*shape, source.width]),
            "count": tf.reshape(counts, shape),
        }

    return read.take(batches).enumerate().map(cut).unbatch()


def chosen(source: Source, position_N: np.ndarray) -> tf.Tensor:
    """Some records by their positions in the files, which ascend: string (N, F).

    By index where the format allows it; else the files are read up to the last of them.
    """
    if source.can_fetch:
        places = FileOrder(Shards.of(source)).locate(position_N)
        return tf.data.Dataset.from_tensors(places).map(source.fetch).get_single_element()
    numbered = everything(source).take(int(position_N[-1]) + 1).enumerate()
    kept = numbered.filter(lambda position, _: tf.reduce_any(position == position_N))
    return kept.map(lambda _, record_F: record_F).batch(len(position_N)).get_single_element()


def load(source: Source) -> tf.Tensor:
    """All records of a source, shard after shard, in memory: string (N, F)."""
    return everything(source).batch(source.num_examples).get_single_element()


def everything(source: Source, start: int = 0) -> tf.data.Dataset:
    """The records (F,) of a source, shard after shard, from the sample at `start` on."""
    length_S = np.array([shard.length for shard in source.shards], np.int64)
    start_S = np.clip(start - (np.cumsum(length_S) - length_S), 0, length_S)
    (shard_X,) = np.nonzero(start_S < length_S)
    pieces = (shard_X.astype(np.int64), start_S[shard_X], (length_S - start_S)[shard_X])
    return tf.data.Dataset.from_tensor_slices(pieces).flat_map(
        lambda *piece: records(source, *piece)
    )


def records(source: Source, shard: tf.Tensor, start: tf.Tensor, length: tf.Tensor):
    """Exactly `length` records (F,) of a shard; those that cannot be read are empty strings."""
    readable = source.read(shard, start, length).ignore_errors(log_warning=True)
    missing = tf.data.Dataset.from_tensors(tf.fill([source.width], "")).repeat()
    return readable.concatenate(missing).take(length)


def _by_index(source: Source, order: GlobalOrder, count: int, share: Share) -> tf.data.Dataset:
    count_B = count + order.rows(share.batch_size)[share.begin : share.end].astype(np.int64)
    first_n = tf.constant(count_B.reshape(-1, share.chunk))

    def pick(batch: tf.Tensor, first: tf.Tensor) -> dict[str, tf.Tensor]:
        count_n = first + batch * share.batch_size
        shard_n, index_n = _locate(order, count_n)
        return {"record": source.fetch(shard_n, index_n), "count": count_n}

    batches = tf.data.Dataset.counter(dtype=tf.int64)
    pairs = batches.flat_map(
        lambda batch: tf.data.Dataset.from_tensor_slices(first_n).map(lambda first: (batch, first))
    )
    read = pairs.map(pick, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return read.map(lambda chunk: _sized(chunk, share.chunk, source.width))


def lanes_of(order: Order, share: Share) -> range:
    """The lanes that a host reads; it reads all rows of a lane of which it needs some."""
    block = share.batch_size // order.lanes
    return range(share.begin // block, -(-share.end // block))


def _by_lanes(
    source: Source, order: LaneOrder | MixedOrder, count: int, share: Share
) -> tf.data.Dataset:
    block, lanes = share.batch_size // order.lanes, lanes_of(order, share)
    count_Cn = order.rows(share.batch_size)[share.begin : share.end].reshape(-1, share.chunk)
    begin, end = (row - lanes[0] * block for row in (share.begin, share.end))

    if isinstance(order, MixedOrder):
        assert isinstance(source, Mixture)
        read_lane, starts = _mixed_lane(source, order, block), order.starts(lanes, count)
    else:
        read_lane = _lane(source, order, block)
        starts = np.array([order.start(k, count) for k in lanes])
    read = tf.data.Dataset.from_tensor_slices((np.array(lanes, np.int64), starts)).interleave(
        read_lane,
        cycle_length=len(lanes),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    # Taken apart and put together, records are moved; cut out, they would be copied.
    records = read.unbatch()
    if (begin, end) != (0, len(lanes) * block):  # other hosts have a share of these lanes
        cut = records.batch(len(lanes) * block).map(lambda record_RF: record_RF[begin:end])
        records = cut.unbatch()

    def counted(number: tf.Tensor, record_nF: tf.Tensor) -> dict[str, tf.Tensor]:
        batch, part = number // len(count_Cn), number % len(count_Cn)
        count_n = count + batch * share.batch_size + tf.gather(count_Cn, part)
        return _sized({"record": record_nF, "count": count_n}, share.chunk, source.width)

    return records.batch(share.chunk, drop_remainder=True).enumerate().map(counted)


def _lane(source: Source, order: LaneOrder, block: int):
    """A function from a lane and its start (epoch, place), as of `LaneOrder.start`, to its records
    (block, F)."""

    def read_lane(lane: tf.Tensor, start_2: tf.Tensor) -> tf.data.Dataset:
        windows = _windows(source, order, lane, start_2[0], start_2[1])
        return windows.unbatch().batch(block, drop_remainder=True)

    return read_lane


def _mixed_lane(mixture: Mixture, order: MixedOrder, block: int):
    """`_lane` for a mixture, with starts as of `MixedOrder.starts`."""

    def stream(number: int, lane: tf.Tensor, start_2: tf.Tensor) -> tf.data.Dataset:
        source, part = mixture.components[number], order.components[number]
        if isinstance(part, LaneOrder):
            records = _windows(source, part, lane, start_2[0], start_2[1]).unbatch()
        else:
            records = _picked(source, part, lane + start_2[1] * order.lanes, order.lanes)
        return records.map(lambda record: mixture.tagged(number, record))

    def read_lane(lane: tf.Tensor, start_P2: tf.Tensor) -> tf.data.Dataset:
        parts = [stream(n, lane, start_P2[n + 1]) for n in range(len(order.components))]

        def draw(first: tf.Tensor) -> tf.Tensor:
            component_X = tf.numpy_function(
                order.draws, [lane, first, _BLOCK], tf.int64, stateful=False
            )
            return tf.ensure_shape(component_X, [_BLOCK])

        draws = tf.data.Dataset.counter(start_P2[0, 0], _BLOCK, dtype=tf.int64).map(draw).unbatch()
        return tf.data.Dataset.choose_from_datasets(parts, draws).batch(block)

    return read_lane


def _picked(source: Source, order: Order, count: tf.Tensor, step: int) -> tf.data.Dataset:
    """The records (F,) of samples count, count + step, ... by index."""

    def pick(first: tf.Tensor) -> tf.Tensor:
        shard_X, index_X = _locate(order, first + tf.range(_PICKED, dtype=tf.int64) * step)
        return source.fetch(shard_X, index_X)

    firsts = tf.data.Dataset.counter(count, step * _PICKED, dtype=tf.int64)
    return firsts.map(pick).prefetch(1).unbatch()


def _windows(
    source: Source,
    order: LaneOrder,
    lane: tf.Tensor,
    first_epoch: tf.Tensor,
    first_place: tf.Tensor,
) -> tf.data.Dataset:
    """The records (W, F) of a lane from a place of an epoch on, window by window; W differs."""

    def piece(piece_3: tf.Tensor) -> tf.data.Dataset:
        # Not `tf.unstack`: TensorFlow 2.21 crashes on a skip or take by one of several outputs.
        return records(source, piece_3[0], piece_3[1], piece_3[2])

    def run(epoch: tf.Tensor, run_3: tf.Tensor) -> tf.data.Dataset:
        base, length, window = run_3[0], run_3[1], run_3[2]
        pieces = _rows(order.pieces, lane, epoch, base, length)
        windows = tf.data.Dataset.from_tensor_slices(pieces).flat_map(piece).batch(window)

        def mix(number: tf.Tensor, record_WF: tf.Tensor) -> tf.Tensor:
            size = tf.shape(record_WF, tf.int64)[0]
            places = [lane, epoch, base + number * window, size]
            order_W = tf.numpy_function(order.permutation, places, tf.int64, stateful=False)
            return tf.gather(record_WF, tf.ensure_shape(order_W, [None]))

        # Not `enumerate`: TensorFlow 2.21 would rewrite a graph each time that one is begun.
        return tf.data.Dataset.zip(tf.data.Dataset.counter(dtype=tf.int64), windows).map(mix)

    def part(epoch: tf.Tensor) -> tf.data.Dataset:
        place = tf.where(epoch == first_epoch, first_place, tf.zeros_like(first_place))
        runs = tf.data.Dataset.from_tensor_slices(_rows(order.runs, lane, epoch, place))
        return runs.flat_map(lambda run_3: run(epoch, run_3))

    windows = tf.data.Dataset.counter(first_epoch, dtype=tf.int64).flat_map(part)
    # The next window is read while this one is used up.
    begin = tf.reduce_min(_rows(order.runs, lane, first_epoch, first_place)[:, 0])
    seen = tf.data.Dataset.from_tensors(first_place - begin)
    seen = seen.concatenate(tf.data.Dataset.from_tensors(tf.constant(0, tf.int64)).repeat())
    return tf.data.Dataset.zip(windows.prefetch(1), seen).map(lambda record_WF, n: record_WF[n:])


def _locate(order: Order, count_X: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """`Order.locate` inside a graph."""
    shard_X, index_X = tf.numpy_function(
        order.locate, [count_X], [tf.int64, tf.int64], stateful=False
    )
    return tf.ensure_shape(shard_X, count_X.shape), tf.ensure_shape(index_X, count_X.shape)


def _sized(chunk: dict[str, tf.Tensor], size: int, width: int) -> dict[str, tf.Tensor]:
    return {**chunk, "record": tf.ensure_shape(chunk["record"], [size, width])}


def _rows(function, *args: tf.Tensor) -> tf.Tensor:
    """A function of whole numbers that gives int64 (rows, 3), inside a graph."""
    return tf.ensure_shape(
        tf.numpy_function(function, list(args), tf.int64, stateful=False), (None, 3)
    )

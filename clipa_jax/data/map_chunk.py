"""A function of one sample, for all samples of a chunk: in one loop, which is fast, or each on its
own, which survives bad ones.

n samples of a chunk, m of them good.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from clipa_jax.data import skips
from clipa_jax.preprocess import registry

ROW, REASON = "_row", "_reason"
Samples = dict[str, Any]  # entries with a leading axis of n, or in a `tf.TensorArray` of n


class Single:
    """A function of one sample, which both ways share, so that it is traced once.

    Attributes:
      untouched: entries that come out as they went in, known once it is traced.
    """

    def __init__(self, function: registry.Function):
        self.untouched: set[str] = set()
        self.function = function
        self._graph = tf.function(self._changes, autograph=False)

    def _changes(self, sample: dict[str, Any]) -> dict[str, Any]:
        done = self.function(sample)
        self.untouched = {name for name in done if done[name] is sample.get(name)}
        return {name: value for name, value in done.items() if name not in self.untouched}

    def changes(self, one: dict[str, Any]) -> Any:
        """A graph from a sample of this specification to the entries that are new."""
        return self._graph.get_concrete_function(one)

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        changed = self._graph(sample)
        return {**changed, **{name: sample[name] for name in self.untouched}}


def in_one_loop(samples: Samples, single: Single, size: int) -> tuple[Samples, tf.Tensor]:
    """`one_by_one`, but an error where any sample is bad."""
    if isinstance(single.function, registry.Choice):
        return _way_by_way(samples, single.function, size), tf.zeros([size], tf.int32)
    arrays = tf.nest.map_structure(_by_row, samples)
    one = tf.nest.map_structure(lambda a: tf.TensorSpec(a.element_shape, a.dtype), arrays)
    changes = single.changes(one)
    results = changes.structured_outputs
    if not _fixed(results):  # they will be ragged, too
        return one_by_one(tf.nest.map_structure(stacked, samples), single, size)
    kept = {name: samples[name] for name in single.untouched}
    reason_n = tf.zeros([size], tf.int32)
    if not results:
        return kept, reason_n
    empty = tf.nest.map_structure(
        lambda x: tf.TensorArray(x.dtype, size, element_shape=x.shape), results
    )

    def step(row: tf.Tensor, filled: Samples) -> tuple[tf.Tensor, Samples]:
        done = changes(tf.nest.map_structure(lambda array: array.read(row), arrays))
        return row + 1, tf.nest.map_structure(lambda a, value: a.write(row, value), filled, done)

    # One after the other: other threads have other chunks, and handing ops around costs time.
    _, filled = tf.while_loop(lambda row, _: row < size, step, (0, empty), parallel_iterations=1)
    if REASON in filled:
        with tf.control_dependencies([good(filled.pop(REASON).stack())]):
            reason_n = tf.identity(reason_n)
    # Encoded pictures are large, and ops on a whole chunk have no use for them.
    done = {
        name: value
        if name == "image" and value.dtype == tf.string
        else tf.nest.map_structure(stacked, value)
        for name, value in filled.items()
    }
    return {**kept, **done}, reason_n


def _way_by_way(samples: Samples, choice: registry.Choice, size: int) -> Samples:
    """Likewise, in a loop for each way."""
    arrays = {name: _by_row(samples[name]) for name in (choice.result, *choice.entries)}
    spec = choice.spec
    filled = tf.TensorArray(spec.dtype, size, element_shape=spec.shape)
    number_n = tf.minimum(samples[choice.number], len(choice.ways) - 1)
    for number, way in enumerate(choice.ways):
        row_m = tf.cast(tf.where(number_n == number)[:, 0], tf.int32)
        filled = _filled(filled, array(row_m), way, arrays)
    return choice.finished(samples, filled.stack())


def _filled(
    filled: tf.TensorArray,
    rows: tf.TensorArray,
    way: Callable[[registry.Sample], tf.Tensor],
    arrays: Samples,
) -> tf.TensorArray:
    """With the results of those rows."""

    def step(place: tf.Tensor, filled: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        row = rows.read(place)
        result = way({name: array.read(row) for name, array in arrays.items()})
        return place + 1, filled.write(row, result)

    number = rows.size()
    done = tf.while_loop(lambda place, _: place < number, step, (0, filled), parallel_iterations=1)
    return done[1]


def one_by_one(samples: Samples, single: Single, size: int) -> tuple[Samples, tf.Tensor]:
    """Applies a function to each of n samples; bad ones are replaced by their neighbours.

    Args:
      samples: entries with a leading axis of n.
      single: the function; may tell by `_reason` why a sample cannot be used.
      size: n.

    Returns:
      Its results with a leading axis of n, and int32 (n,), why a sample was replaced, 0 for
      the good ones.
    """

    def ready(row: tf.Tensor, sample: dict[str, Any]) -> dict[str, Any]:
        return {REASON: tf.constant(0), **single(sample), ROW: row}

    rows = tf.data.Dataset.range(size)
    parts = tf.data.Dataset.zip(rows, tf.data.Dataset.from_tensor_slices(samples)).map(ready)
    blank = tf.data.Dataset.from_tensors(_zeros(parts.element_spec))
    whole = _batch(parts.ignore_errors().concatenate(blank), size + 1).get_single_element()
    source_n, reason_n = _replacements(whole.pop(ROW), whole.pop(REASON), size)
    filled = tf.nest.map_structure(lambda x: tf.gather(x, source_n), whole)
    return tf.nest.map_structure(lambda x: _sized(x, size), filled), reason_n


def array(tensor: tf.Tensor) -> tf.TensorArray:
    """The rows of a tensor, which loops then read without copies."""
    size = tensor.shape[0] or tf.shape(tensor)[0]
    rows = tf.TensorArray(tensor.dtype, size, element_shape=tensor.shape[1:])
    return rows.unstack(tensor)


def stacked(entry: Any) -> Any:
    """A tensor again of what `array` has made, or a loop."""
    return entry.stack() if isinstance(entry, tf.TensorArray) else entry


def good(reason_n: tf.Tensor) -> tf.Operation:
    """Fails where a sample is bad: int32 (n,), 0 for the good ones."""
    return tf.debugging.Assert(tf.reduce_all(reason_n == 0), [reason_n])


class _Rows:
    """A ragged tensor (n, None), to be read row by row like a `tf.TensorArray`."""

    def __init__(self, ragged: tf.RaggedTensor):
        self.element_shape, self.dtype = ragged.shape[1:], ragged.dtype
        self._ragged = ragged

    def read(self, row: tf.Tensor) -> tf.Tensor:
        return self._ragged[row]


def _by_row(entry: tf.TensorArray | tf.RaggedTensor | tf.Tensor) -> tf.TensorArray | _Rows:
    if isinstance(entry, tf.TensorArray):
        return entry
    return _Rows(entry) if isinstance(entry, tf.RaggedTensor) else array(entry)


def _replacements(row_m: tf.Tensor, reason_m: tf.Tensor, size: int):
    """Which of the m samples that came through stands in each of n rows.

    Args:
      row_m: int64, their rows, ascending; the last one is the blank.
      reason_m: int32, likewise.
      size: n.

    Returns:
      Their places (n,), and the reasons (n,) of the rows as they were.
    """
    row_m, reason_m, blank = row_m[:-1], reason_m[:-1], tf.size(row_m) - 1
    lost_n = tf.fill([size], skips.DECODE)
    reason_n = tf.tensor_scatter_nd_update(lost_n, row_m[:, None], reason_m)
    good = tf.where(reason_m == 0)[:, 0]
    nearest = tf.searchsorted(tf.gather(row_m, good), tf.range(size, dtype=tf.int64))
    nearest = tf.minimum(nearest, tf.size(good) - 1)
    places_n = tf.cond(
        tf.size(good) > 0,
        lambda: tf.cast(tf.gather(good, nearest), tf.int32),
        lambda: tf.fill([size], blank),
    )
    return places_n, reason_n


def _zeros(spec: dict[str, Any]) -> dict[str, Any]:
    return tf.nest.map_structure(
        lambda tensor: tf.zeros([size or 0 for size in tensor.shape], tensor.dtype), spec
    )


def _fixed(sample: Any) -> bool:
    return all(entry.shape.is_fully_defined() for entry in tf.nest.flatten(sample))


def _batch(samples: tf.data.Dataset, size: int) -> tf.data.Dataset:
    fixed = _fixed(samples.element_spec)
    return samples.batch(size) if fixed else samples.ragged_batch(size)


def _sized(value: Any, size: int) -> Any:
    if isinstance(value, tf.Tensor):
        value.set_shape([size, *value.shape[1:]])
    return value

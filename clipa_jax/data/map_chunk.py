"""Maps a function of one sample over a chunk: in one loop, which is fast, or sample by sample,
which survives bad ones. Both give the same samples.

n samples of a chunk, m of them in a branch.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from clipa_jax.data import bad_samples
from clipa_jax.preprocess.fusion import Switch
from clipa_jax.preprocess.registry import Function, Sample

REASON = "_reason"  # of each sample, an index of `bad_samples.REASONS`
_ROW = "_row"
Samples = dict[str, Any]  # entries with a leading axis of n, or in a `tf.TensorArray` of n


class PerSample:
    """A function of one sample, traced once for both ways of mapping it.

    `unchanged` are the entries that it passes on, known once it is traced.
    """

    def __init__(self, function: Function):
        self.unchanged: set[str] = set()
        self.function = function
        self._graph = tf.function(self._changes, autograph=False)

    def _changes(self, sample: Sample) -> Sample:
        result = self.function(sample)
        self.unchanged = {name for name in result if result[name] is sample.get(name)}
        return {name: value for name, value in result.items() if name not in self.unchanged}

    def changes(self, spec: dict[str, Any]) -> Any:
        """A graph from a sample of this specification to the entries that are new."""
        return self._graph.get_concrete_function(spec)

    def __call__(self, sample: Sample) -> Sample:
        changed = self._graph(sample)
        return {**changed, **{name: sample[name] for name in self.unchanged}}


def in_one_loop(samples: Samples, mapped: PerSample, size: int) -> tuple[Samples, tf.Tensor]:
    """`mapped` for all n = `size` samples, as `one_by_one`; fails if one of them is bad."""
    if isinstance(mapped.function, Switch):
        return _branch_by_branch(samples, mapped.function, size), tf.zeros([size], tf.int32)
    arrays = tf.nest.map_structure(_by_row, samples)
    changes = mapped.changes(
        tf.nest.map_structure(lambda a: tf.TensorSpec(a.element_shape, a.dtype), arrays)
    )
    results = changes.structured_outputs
    if not _has_fixed_shapes(results):  # the batch will be ragged
        return one_by_one(tf.nest.map_structure(stacked, samples), mapped, size)
    unchanged = {name: samples[name] for name in mapped.unchanged}
    reason_n = tf.zeros([size], tf.int32)
    if not results:
        return unchanged, reason_n
    empty = tf.nest.map_structure(
        lambda x: tf.TensorArray(x.dtype, size, element_shape=x.shape), results
    )

    def body(row: tf.Tensor, filled: Samples) -> tuple[tf.Tensor, Samples]:
        result = changes(tf.nest.map_structure(lambda array: array.read(row), arrays))
        return row + 1, tf.nest.map_structure(lambda a, value: a.write(row, value), filled, result)

    # Serial: other threads have other chunks, and handing ops around costs time.
    _, filled = tf.while_loop(lambda row, _: row < size, body, (0, empty), parallel_iterations=1)
    if REASON in filled:
        with tf.control_dependencies([assert_good(filled.pop(REASON).stack())]):
            reason_n = tf.identity(reason_n)
    # Encoded pictures are large, and ops on a whole chunk have no use for them.
    changed = {
        name: value
        if name == "image" and value.dtype == tf.string
        else tf.nest.map_structure(stacked, value)
        for name, value in filled.items()
    }
    return {**unchanged, **changed}, reason_n


def one_by_one(samples: Samples, mapped: PerSample, size: int) -> tuple[Samples, tf.Tensor]:
    """Applies a function to each of n = `size` samples, and replaces bad ones by their neighbors.

    The function may give the entry `REASON`. Gives its results and the reasons, int32 (n,).
    """

    def apply(row: tf.Tensor, sample: Sample) -> Sample:
        return {REASON: tf.constant(0), **mapped(sample), _ROW: row}

    rows = tf.data.Dataset.range(size)
    results = tf.data.Dataset.zip(rows, tf.data.Dataset.from_tensor_slices(samples)).map(apply)
    blank = tf.data.Dataset.from_tensors(_zeros(results.element_spec))
    survivors = _batch(results.ignore_errors().concatenate(blank), size + 1).get_single_element()
    index_n, reason_n = bad_samples.replacements(survivors.pop(_ROW), survivors.pop(REASON), size)
    filled = tf.nest.map_structure(lambda x: tf.gather(x, index_n), survivors)
    return tf.nest.map_structure(lambda x: _sized(x, size), filled), reason_n


def array(tensor: tf.Tensor) -> tf.TensorArray:
    """The rows of a tensor, which loops then read without copies."""
    size = tensor.shape[0] or tf.shape(tensor)[0]
    rows = tf.TensorArray(tensor.dtype, size, element_shape=tensor.shape[1:])
    return rows.unstack(tensor)


def stacked(entry: Any) -> Any:
    """A `tf.TensorArray` as a tensor; other entries as they are."""
    return entry.stack() if isinstance(entry, tf.TensorArray) else entry


def assert_good(reason_n: tf.Tensor) -> tf.Operation:
    """Fails where a sample is bad: int32 (n,), 0 for the good ones."""
    return tf.debugging.Assert(tf.reduce_all(reason_n == 0), [reason_n])


def _branch_by_branch(samples: Samples, switch: Switch, size: int) -> Samples:
    """A switch on n samples, in a loop for each branch."""
    names = (switch.result, switch.index, *switch.entries)
    arrays = {name: _by_row(samples[name]) for name in names}
    filled = tf.TensorArray(switch.spec.dtype, size, element_shape=switch.spec.shape)
    branch_n = tf.minimum(samples[switch.index], len(switch.branches) - 1)
    for number, branch in enumerate(switch.branches):
        row_m = tf.cast(tf.where(branch_n == number)[:, 0], tf.int32)
        filled = _filled(filled, array(row_m), branch, arrays)
    return switch.replaced(samples, filled.stack())


def _filled(
    filled: tf.TensorArray,
    row_m: tf.TensorArray,
    branch: Callable[[Sample], tf.Tensor],
    arrays: Samples,
) -> tf.TensorArray:
    """Writes the results of a branch for m rows."""

    def body(index: tf.Tensor, filled: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        row = row_m.read(index)
        result = branch({name: array.read(row) for name, array in arrays.items()})
        return index + 1, filled.write(row, result)

    count = row_m.size()
    return tf.while_loop(lambda i, _: i < count, body, (0, filled), parallel_iterations=1)[1]


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


def _zeros(spec: dict[str, Any]) -> dict[str, Any]:
    return tf.nest.map_structure(
        lambda tensor: tf.zeros([size or 0 for size in tensor.shape], tensor.dtype), spec
    )


def _has_fixed_shapes(sample: Any) -> bool:
    return all(entry.shape.is_fully_defined() for entry in tf.nest.flatten(sample))


def _batch(samples: tf.data.Dataset, size: int) -> tf.data.Dataset:
    fixed = _has_fixed_shapes(samples.element_spec)
    return samples.batch(size) if fixed else samples.ragged_batch(size)


def _sized(value: Any, size: int) -> Any:
    if isinstance(value, tf.Tensor):
        value.set_shape([size, *value.shape[1:]])
    return value

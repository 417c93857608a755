"""Preprocessing in small chunks, such that a bad sample costs neither the run nor its place.

TensorFlow has no exceptions inside a graph: an op that fails ends the element that it
works on. So a chunk of samples is prepared in one of two ways:

- quickly, all samples in one loop, which is lost as a whole where one of them is bad;
- carefully, then, each sample an element of a little dataset of its own, from which failed ones
  drop out. Each is replaced by the next good sample of the chunk (the one before, where there is
  none behind), with its reason beside it.

Both give the same samples. A bad one never moves the others: hosts stay in step and the position
of a run stays exact. Ops that can do a whole chunk at once do so in between.

n samples of a chunk, F strings of a record.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from clipa_jax.data import skips
from clipa_jax.data.sources.base import Source
from clipa_jax.preprocess import decode, registry

CAPTION_BYTES = 16_384  # of a caption that are looked at
ROW, REASON = "_row", "_reason"
_PASSED = "_passed"
Chunk = dict[str, tf.Tensor]
Samples = dict[str, Any]  # entries with a leading axis of n, or in a `tf.TensorArray` of n
Each = Callable[[Samples, "_Single", int], tuple[Samples, tf.Tensor]]
Process = Callable[[tf.data.Dataset], tf.data.Dataset]


def chunk_function(
    source: Source,
    preprocess: str,
    *,
    size: int,
    seed: int,
    keep: Sequence[str] | None,
    features: Sequence[str] = (),
    captions: bool,
    max_pixels: int = decode.MAX_PIXELS,
) -> tuple[Process, dict[str, tf.TensorSpec]]:
    """A function from a dataset of chunks of encoded samples to one of ready samples, and the
    specification of its elements.

    Args:
      source: parses records.
      preprocess: the ops; the sample's seed is (seed, count).
      size: n.
      seed: of the run.
      keep: entries of the result, if the ops give them; None for all there are, with
        sizes in place of what has no fixed one, so that a timing can stop anywhere.
      features: further entries of the source that are passed on.
      captions: whether a sample without a caption is a bad one.
      max_pixels: of a picture; a larger one is not decoded.

    Returns:
      A function of chunks {"record": string (n, F), "count": int64 (n,)}; it gives, in the same
      order, entries with a leading axis of n, and `_reason` int32 (n,), places in `skips.REASONS`.
    """
    draw, phases = registry.phases(preprocess) if preprocess else (lambda seed_n2: {}, [])
    parse = functools.partial(_parsed, source, tuple(features), captions, max_pixels)
    steps = [
        function if batched else _Single(function)
        for batched, function in _steps(parse, phases, measured=keep is None)
    ]

    def prepare(each: Each, chunk: Chunk) -> Chunk:
        seed_n2 = tf.stack([tf.fill([size], tf.constant(seed, tf.int64)), chunk["count"]], 1)
        samples = {"record": chunk["record"], **draw(seed_n2)}
        unreadable_n = tf.reduce_all(chunk["record"] == "", 1)
        reason_n = tf.where(unreadable_n, skips.UNREADABLE, 0)
        for step in steps:
            if isinstance(step, _Single):
                samples, found_n = each(samples, step, size)
                reason_n = tf.where(reason_n == 0, found_n, reason_n)
            else:
                samples = step(samples)
        passed = samples.pop(_PASSED)
        kept = {k: _stacked(v) for k, v in samples.items() if keep is None or k in keep}
        return {**kept, **passed, REASON: reason_n}

    record_nF = tf.TensorSpec([size, source.width], tf.string)
    specs = {"record": record_nF, "count": tf.TensorSpec([size], tf.int64)}
    quickly, carefully = (
        tf.function(functools.partial(prepare, each), autograph=False).get_concrete_function(specs)
        for each in (_all, _each)
    )
    return functools.partial(_process, quickly, carefully), carefully.structured_outputs


def _process(
    quickly: Callable[[Chunk], Chunk],
    carefully: Callable[[Chunk], Chunk],
    chunks: tf.data.Dataset,
) -> tf.data.Dataset:
    """Chunks prepared quickly, and those of them carefully where that fails."""

    def one(chunk: Chunk) -> tf.data.Dataset:
        given = tf.data.Dataset.from_tensors(chunk)
        done = given.map(quickly).ignore_errors()
        # Nothing of the second dataset is begun unless the first one is empty.
        return done.concatenate(given.map(carefully)).take(1)

    options = tf.data.Options()
    options.deterministic = True
    done = chunks.interleave(one, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return done.with_options(options)


def _steps(
    parse: registry.Function, phases: list[registry.Phase], *, measured: bool
) -> list[tuple[bool, registry.Function]]:
    """What happens to a chunk: functions, each with whether it takes all samples at once.

    A record is parsed together with the first ops on single samples, and its captions go no
    further if no op needs them: any number of them, put together for a chunk, is slow.
    """
    steps = [(phase.batched, phase.function) for phase in phases]
    first = [parse]
    if steps and not steps[0][0]:
        first.append(steps.pop(0)[1])
    if not any(phase.entries - {"image"} for phase in phases[len(phases) - len(steps) :]):
        first.append(lambda sample: {k: v for k, v in sample.items() if k != "captions"})
    steps.insert(0, (False, _chain(first)))
    if measured and not steps[-1][0]:
        steps[-1] = (False, _chain([steps[-1][1], _measured]))
    return steps


def _chain(functions: list[registry.Function]) -> registry.Function:
    def apply(sample: dict[str, Any]) -> dict[str, Any]:
        for function in functions:
            sample = function(sample)
        return sample

    return apply


def _parsed(
    source: Source, features: tuple[str, ...], captions: bool, max_pixels: int, sample: Chunk
) -> dict[str, Any]:
    """A record's entries, those that are passed on apart, and why it cannot be used."""
    sample = dict(sample)
    found = source.parse(sample.pop("record"), features)
    reason = fault(found, captions, max_pixels)
    passed = {name: found[name] for name in features}
    image = tf.where(reason == 0, found["image"], _blank())
    found.pop("id", None)  # no op needs it
    return {**sample, **found, "image": image, _PASSED: passed, REASON: reason}


@functools.cache
def _blank() -> bytes:
    """A picture in place of one that is not decoded."""
    with tf.init_scope():
        return tf.io.encode_jpeg(tf.fill([1, 1, 3], tf.constant(255, tf.uint8))).numpy()


def fault(sample: dict[str, Any], captions: bool, max_pixels: int) -> tf.Tensor:
    """Why a sample that could be read cannot be used; 0 if it can. Mends captions, and drops
    blank ones."""
    image = sample["image"]
    sample["_size"] = decode.size(image)
    reason = tf.where(tf.reduce_prod(sample["_size"]) > max_pixels, skips.TOO_LARGE, 0)
    reason = tf.where(tf.strings.length(image) == 0, skips.MISSING_KEY, reason)
    if captions:
        texts = _mended(sample["captions"])
        filled = tf.where(tf.strings.length(tf.strings.strip(texts)) > 0)
        sample["captions"] = tf.gather(texts, filled[:, 0])
        blank = tf.where(tf.size(sample["captions"]) == 0, skips.EMPTY_CAPTION, 0)
        reason = tf.where(reason == 0, blank, reason)
    return reason


def _mended(texts: tf.Tensor) -> tf.Tensor:
    """Captions as valid UTF-8: each bad byte becomes U+FFFD, and what is too long is cut off."""
    texts = tf.strings.substr(texts, 0, CAPTION_BYTES)
    return tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")


class _Single:
    """A function of one sample, which both ways share, so that it is traced once.

    Attributes:
      untouched: entries that come out as they went in, known once it is traced.
    """

    def __init__(self, function: registry.Function):
        self.untouched: set[str] = set()
        self._function = function
        self._graph = tf.function(self._changes, autograph=False)

    def _changes(self, sample: dict[str, Any]) -> dict[str, Any]:
        done = self._function(sample)
        self.untouched = {name for name in done if done[name] is sample.get(name)}
        return {name: value for name, value in done.items() if name not in self.untouched}

    def changes(self, one: dict[str, Any]) -> Any:
        """A graph from a sample of this specification to the entries that are new."""
        return self._graph.get_concrete_function(one)

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        changed = self._graph(sample)
        return {**changed, **{name: sample[name] for name in self.untouched}}


def _all(samples: Samples, single: _Single, size: int) -> tuple[Samples, tf.Tensor]:
    """`_each`, but an error where any sample is bad."""
    if any(isinstance(entry, tf.RaggedTensor) for entry in tf.nest.flatten(samples)):
        return _each(tf.nest.map_structure(_stacked, samples), single, size)
    arrays = tf.nest.map_structure(_array, samples)
    one = tf.nest.map_structure(lambda a: tf.TensorSpec(a.element_shape, a.dtype), arrays)
    changes = single.changes(one)
    results = changes.structured_outputs
    if not _fixed(results):  # they will be ragged, too
        return _each(tf.nest.map_structure(_stacked, samples), single, size)
    empty = tf.nest.map_structure(
        lambda x: tf.TensorArray(x.dtype, size, element_shape=x.shape), results
    )

    def step(row: tf.Tensor, filled: Samples) -> tuple[tf.Tensor, Samples]:
        done = changes(tf.nest.map_structure(lambda array: array.read(row), arrays))
        return row + 1, tf.nest.map_structure(lambda a, value: a.write(row, value), filled, done)

    # One after the other: other threads have other chunks, and handing ops around costs time.
    _, filled = tf.while_loop(
        lambda row, _: row < size, step, (0, empty), parallel_iterations=1, maximum_iterations=size
    )
    reason_n = tf.zeros([size], tf.int32)
    if REASON in filled:
        found_n = filled.pop(REASON).stack()
        good = tf.debugging.Assert(tf.reduce_all(found_n == 0), [found_n])
        with tf.control_dependencies([good]):
            reason_n = tf.identity(reason_n)
    kept = {name: samples[name] for name in single.untouched}
    # Encoded pictures are large, and ops on a whole chunk have no use for them.
    done = {
        name: value
        if name == "image" and value.dtype == tf.string
        else tf.nest.map_structure(_stacked, value)
        for name, value in filled.items()
    }
    return {**kept, **done}, reason_n


def _array(entry: Any) -> tf.TensorArray:
    if isinstance(entry, tf.TensorArray):
        return entry
    array = tf.TensorArray(entry.dtype, entry.shape[0], element_shape=entry.shape[1:])
    return array.unstack(entry)


def _stacked(entry: Any) -> Any:
    return entry.stack() if isinstance(entry, tf.TensorArray) else entry


def _each(samples: Samples, single: _Single, size: int) -> tuple[Samples, tf.Tensor]:
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


def _measured(sample: dict[str, Any]) -> dict[str, Any]:
    """Sizes in place of what has none that is fixed."""
    return {
        name: tf.size(value)
        if isinstance(value, tf.Tensor) and not value.shape.is_fully_defined()
        else value
        for name, value in sample.items()
    }


def _sized(value: Any, size: int) -> Any:
    if isinstance(value, tf.Tensor):
        value.set_shape([size, *value.shape[1:]])
    return value

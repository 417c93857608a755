"""Preprocessing in small chunks, such that a bad sample costs neither the run nor its place.

TensorFlow has no exceptions inside a graph: an op that fails ends the element that it
works on. So a chunk of samples is prepared in one of two ways:

- quickly, as much of it as can be in ops on the whole chunk and the rest in loops, which is lost
  as a whole where one of the samples is bad;
- carefully, then, each sample an element of a little dataset of its own, from which failed ones
  drop out. Each is replaced by the next good sample of the chunk (the one before, where there is
  none behind), with its reason beside it.

Both give the same samples. A bad one never moves the others: hosts stay in step and the position
of a run stays exact.

n samples of a chunk, F strings of a record.
"""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from clipa_jax.data import map_chunk, skips
from clipa_jax.data.map_chunk import REASON, Samples
from clipa_jax.data.sources.base import Source
from clipa_jax.preprocess import decode, header, registry

CAPTION_BYTES = 16_384  # of a caption that are looked at
_PASSED = "_passed"
Chunk = dict[str, tf.Tensor]
Each = Callable[[Samples, map_chunk.Single, int], tuple[Samples, tf.Tensor]]
Step = Callable[[Samples], Samples]  # of all samples of a chunk, or a `loops.Single`
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
      captions: whether a sample without a caption is a bad one, if an op may need it.
      max_pixels: of a picture; a larger one is not decoded.

    Returns:
      A function of chunks {"record": string (n, F), "count": int64 (n,)}; it gives, in the same
      order, entries with a leading axis of n, and `_reason` int32 (n,), places in `skips.REASONS`.
    """
    draw, phases = registry.phases(preprocess) if preprocess else (lambda seed_n2: {}, [])
    captions = captions and any(phase.entries - {"image"} for phase in phases)
    parse = functools.partial(_parsed, source, tuple(features), captions, max_pixels)
    ops = [
        phase.function if phase.batched else map_chunk.Single(phase.function) for phase in phases
    ]
    entries = [phase.entries for phase in phases]
    steps = functools.partial(_steps, ops=ops, entries=entries, measured=keep is None)
    quickly = carefully = steps(map_chunk.Single(parse))
    if source.can_parse_all and not features:
        quickly = steps(functools.partial(_parsed_all, source, captions, max_pixels, size))

    record_nF = tf.TensorSpec([size, source.width], tf.string)
    specs = {"record": record_nF, "count": tf.TensorSpec([size], tf.int64)}
    drawn = _traced(functools.partial(_drawn, draw, size, seed), specs)
    quick, careful = (
        _traced(functools.partial(_prepared, size, keep, *way), drawn.structured_outputs)
        for way in ((map_chunk.in_one_loop, quickly), (map_chunk.one_by_one, carefully))
    )
    return functools.partial(_process, drawn, quick, careful), careful.structured_outputs


def _traced(function: Callable[[Chunk], Chunk], specs: dict[str, tf.TensorSpec]) -> Any:
    return tf.function(function, autograph=False).get_concrete_function(specs)


def _drawn(
    draw: Callable[[tf.Tensor], registry.Sample], size: int, seed: int, chunk: Chunk
) -> Chunk:
    """The records of a chunk of n = `size`, and the random numbers for them."""
    seed_n2 = tf.stack([tf.fill([size], tf.constant(seed, tf.int64)), chunk["count"]], 1)
    return {"record": chunk["record"], **draw(seed_n2)}


def _prepared(
    size: int, keep: Sequence[str] | None, each: Each, steps: Sequence[Step], chunk: Chunk
) -> Chunk:
    """A chunk of n = `size` after all steps, those on single samples applied by `each`."""
    samples = dict(chunk)
    unreadable_n = tf.reduce_all(tf.strings.length(chunk["record"]) == 0, 1)
    reason_n = tf.where(unreadable_n, skips.UNREADABLE, 0)
    for step in steps:
        if isinstance(step, map_chunk.Single):
            samples, found_n = each(samples, step, size)
            reason_n = tf.where(reason_n == 0, found_n, reason_n)
        else:
            samples = step(samples)
    passed = samples.pop(_PASSED, {})
    kept = {k: map_chunk.stacked(v) for k, v in samples.items() if keep is None or k in keep}
    return {**kept, **passed, REASON: reason_n}


def _process(
    drawn: Callable[[Chunk], Chunk],
    quickly: Callable[[Chunk], Chunk],
    carefully: Callable[[Chunk], Chunk],
    chunks: tf.data.Dataset,
) -> tf.data.Dataset:
    """Chunks prepared quickly, and those of them carefully where that fails.

    Random numbers are drawn beforehand, since that cannot fail: TensorFlow looks at each op of
    what may each time that it begins with it.
    """

    def one(chunk: Chunk) -> tf.data.Dataset:
        given = tf.data.Dataset.from_tensors(chunk)
        done = given.map(quickly).ignore_errors()
        # Nothing of the second dataset is begun unless the first one is empty.
        return done.concatenate(given.map(carefully)).take(1)

    options = tf.data.Options()
    options.deterministic = True
    # To tune itself, tf.data would look at the clock before and after every op of every sample. A
    # chunk keeps one thread busy, so as many as there are cores is right.
    options.autotune.enabled = False
    cores = _cores()
    done = chunks.map(drawn).interleave(
        one, cycle_length=cores, num_parallel_calls=cores, deterministic=True
    )
    return done.with_options(options)


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _steps(
    parse: Step, ops: Sequence[Step], entries: Sequence[frozenset[str]], *, measured: bool
) -> list[Step]:
    """What happens to a chunk, step by step; neighbours on single samples are one step.

    Captions go no further than the first ops on single samples if no later op needs them: any
    number of them, put together for a chunk, is slow.

    Args:
      parse: what comes first.
      ops: what follows, in order.
      entries: what each of them works on, see `registry.Op`.
      measured: sizes in place of what has no fixed one.
    """
    steps = list(ops)
    first: list[registry.Function] = []
    if isinstance(parse, map_chunk.Single):
        first.append(parse.function)
    if steps and isinstance(steps[0], map_chunk.Single):
        first.append(steps[0].function)
        del steps[0]
    if not any(names - {"image"} for names in entries[len(ops) - len(steps) :]):
        first.append(lambda sample: {k: v for k, v in sample.items() if k != "captions"})
    if first:
        steps.insert(0, map_chunk.Single(_chain(first)))
    if not isinstance(parse, map_chunk.Single):
        steps.insert(0, parse)
    if measured and isinstance(steps[-1], map_chunk.Single):
        last = steps[-1].function
        if not isinstance(last, registry.Choice):  # what that gives has a fixed size
            steps[-1] = map_chunk.Single(_chain([last, _measured]))
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


def _parsed_all(
    source: Source, captions: bool, max_pixels: int, size: int, samples: Samples
) -> Samples:
    """The entries of n = `size` records, in a few ops for all of them; an error where one cannot be
    used."""
    samples = dict(samples)
    found = source.parse_all(samples.pop("record"), captions=captions)
    images = map_chunk.array(
        found["image"]
    )  # they are large: from here on one by one, without copies
    found.update(_looked_at(found["image"], images, size))
    with tf.control_dependencies([map_chunk.good(fault(found, captions, max_pixels))]):
        return {**samples, **found, "image": images.identity()}  # not decoded before


def _looked_at(image_n: tf.Tensor, images: tf.TensorArray, size: int) -> Samples:
    """`header.added` for n = `size` pictures, which come in two forms."""
    jpeg_n2 = header.jpeg_sizes(image_n)
    jpeg_n = tf.reduce_all(jpeg_n2 > 0, 1)

    def with_others() -> tuple[tf.Tensor, tf.Tensor]:
        known_n2 = jpeg_n2 + header.other_sizes(image_n)
        return tf.cond(tf.reduce_all(known_n2 > 0), lambda: (known_n2, jpeg_n), one_by_one)

    def one_by_one() -> tuple[tf.Tensor, tf.Tensor]:
        done, _ = map_chunk.in_one_loop({"image": images}, map_chunk.Single(header.added), size)
        return done["_size"], done["_jpeg"]

    size_n2, jpeg_n = tf.cond(tf.reduce_all(jpeg_n), lambda: (jpeg_n2, jpeg_n), with_others)
    return {"_size": size_n2, "_jpeg": jpeg_n}


@functools.cache
def _blank() -> bytes:
    """A picture in place of one that is not decoded."""
    with tf.init_scope():
        return tf.io.encode_jpeg(tf.fill([1, 1, 3], tf.constant(255, tf.uint8))).numpy()


def fault(sample: dict[str, Any], captions: bool, max_pixels: int) -> tf.Tensor:
    """Why a sample that could be read cannot be used; 0 if it can. Mends captions, and drops
    blank ones.

    Takes n of them, too, with their sizes and ragged captions.
    """
    image = sample["image"]
    sample.update(header.added(sample))
    reason = tf.where(tf.reduce_prod(sample["_size"], -1) > max_pixels, skips.TOO_LARGE, 0)
    reason = tf.where(tf.strings.length(image) == 0, skips.MISSING_KEY, reason)
    if captions:
        sample["captions"], number = _filled(sample["captions"])
        reason = tf.where((reason == 0) & (number == 0), skips.EMPTY_CAPTION, reason)
    return reason


def _filled(texts: tf.Tensor | tf.RaggedTensor) -> tuple[tf.Tensor | tf.RaggedTensor, tf.Tensor]:
    """Captions, mended, without those that are blank; and how many there are."""
    ragged = isinstance(texts, tf.RaggedTensor)
    valid = _mended(texts.flat_values if ragged else texts)
    filled = tf.strings.length(tf.strings.strip(valid)) > 0
    if not ragged:
        found = tf.gather(valid, tf.where(filled)[:, 0])
        return found, tf.size(found)
    found = tf.ragged.boolean_mask(texts.with_flat_values(valid), texts.with_flat_values(filled))
    return found, found.row_lengths()


def _mended(texts: tf.Tensor) -> tf.Tensor:
    """Captions as valid UTF-8: each bad byte becomes U+FFFD, and what is too long is cut off."""
    texts = tf.strings.substr(texts, 0, CAPTION_BYTES)
    return tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")


def _measured(sample: dict[str, Any]) -> dict[str, Any]:
    """Sizes in place of what has none that is fixed."""
    return {
        name: tf.size(value)
        if isinstance(value, tf.Tensor) and not value.shape.is_fully_defined()
        else value
        for name, value in sample.items()
    }

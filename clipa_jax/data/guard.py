"""Preprocessing in small chunks, such that a bad sample costs neither the run nor its place.

TensorFlow has no exceptions inside a graph: an op that fails ends the element that it
works on. Here each chunk of samples is a little dataset of its own, from which failed
elements drop out; each is then replaced by the next good sample of the chunk (the one
before, where there is none behind), with its reason beside it. So a bad sample never
moves the others: hosts stay in step and the position of a run stays exact.

n samples of a chunk, F strings of a record.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from clipa_jax.data import skips
from clipa_jax.data.sources.base import Source
from clipa_jax.preprocess import decode, registry

CAPTION_BYTES = 16_384  # of a caption that are looked at
ROW, REASON = "_row", "_reason"
Chunk = dict[str, tf.Tensor]
Process = Callable[[Chunk], Chunk]


def chunk_function(
    source: Source,
    preprocess: str,
    *,
    size: int,
    seed: int,
    keep: Sequence[str],
    features: Sequence[str] = (),
    captions: bool,
    max_pixels: int = decode.MAX_PIXELS,
) -> tuple[Process, dict[str, tf.TensorSpec]]:
    """A function for `Dataset.map` from encoded to ready samples, traced, with its results'
    specification.

    Args:
      source: parses records.
      preprocess: the ops; the sample's seed is (seed, count).
      size: n.
      seed: of the run.
      keep: entries of the result, if the ops give them.
      features: further entries of the source that are passed on.
      captions: whether a sample without a caption is a bad one.
      max_pixels: of a picture; a larger one is not decoded.

    Returns:
      A function of {"record": string (n, F), "count": int64 (n,)}; it gives entries with a
      leading axis of n, and `_reason` int32 (n,), places in `skips.REASONS`.
    """
    one, batch = registry.split(preprocess)
    placeholder = tf.io.encode_jpeg(tf.fill([1, 1, 3], tf.constant(255, tf.uint8))).numpy()

    def ready(row: tf.Tensor, record: tf.Tensor, count: tf.Tensor) -> dict[str, Any]:
        sample = source.parse(record, features)
        reason = fault(sample, captions, max_pixels)
        passed = {name: sample[name] for name in features}
        sample["image"] = tf.where(reason == 0, sample["image"], placeholder)
        sample["seed"] = tf.stack([tf.constant(seed, tf.int64), count])
        done = one(sample)
        kept = {k: v for k, v in done.items() if k in keep or k.startswith("_")}
        return {**kept, **passed, ROW: row, REASON: reason}

    def process(chunk: Chunk) -> Chunk:
        rows = tf.data.Dataset.range(size)
        samples = tf.data.Dataset.from_tensor_slices((chunk["record"], chunk["count"]))
        samples = tf.data.Dataset.zip(rows, samples).map(lambda row, rest: ready(row, *rest))
        blank = tf.data.Dataset.from_tensors(_zeros(samples.element_spec))
        samples = samples.ignore_errors().concatenate(blank)
        whole = _batch(samples, size + 1).get_single_element()
        unreadable = tf.reduce_all(chunk["record"] == "", 1)
        source_n, reason_n = _replacements(whole.pop(ROW), whole.pop(REASON), unreadable)
        filled = tf.nest.map_structure(lambda x: tf.gather(x, source_n), whole)
        filled = {name: _sized(value, size) for name, value in filled.items()}
        return {**batch(filled), REASON: reason_n}

    record_nF = tf.TensorSpec([size, source.width], tf.string)
    count_n = tf.TensorSpec([size], tf.int64)
    graph = tf.function(process, autograph=False)
    traced = graph.get_concrete_function({"record": record_nF, "count": count_n})
    return traced, traced.structured_outputs


def fault(sample: dict[str, Any], captions: bool, max_pixels: int) -> tf.Tensor:
    """Why a sample that could be read cannot be used; 0 if it can. Mends captions, and drops
    blank ones."""
    image = sample["image"]
    without = tf.strings.length(image) == 0
    pixels = tf.cond(without, lambda: tf.constant(0, tf.int64), lambda: decode.pixels(image))
    reason = tf.where(pixels > max_pixels, skips.TOO_LARGE, 0)
    reason = tf.where(without, skips.MISSING_KEY, reason)
    if captions:
        texts = _mended(sample["captions"])
        sample["captions"] = tf.boolean_mask(texts, tf.strings.length(tf.strings.strip(texts)) > 0)
        blank = tf.where(tf.size(sample["captions"]) == 0, skips.EMPTY_CAPTION, 0)
        reason = tf.where(reason == 0, blank, reason)
    return reason


def _mended(texts: tf.Tensor) -> tf.Tensor:
    """Captions as valid UTF-8: each bad byte becomes U+FFFD, and what is too long is cut off."""
    texts = tf.strings.substr(texts, 0, CAPTION_BYTES)
    return tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")


def _replacements(row_m: tf.Tensor, reason_m: tf.Tensor, unreadable_n: tf.Tensor):
    """Which of the m samples that came through stands in each of n rows.

    Args:
      row_m: int64, their rows, ascending; the last one is the blank.
      reason_m: int32, likewise.
      unreadable_n: bool, rows of which there was no record.

    Returns:
      Their places (n,), and the reasons (n,) of the rows as they were.
    """
    size = unreadable_n.shape[0]
    row_m, reason_m, blank = row_m[:-1], reason_m[:-1], tf.size(row_m) - 1
    lost_n = tf.fill([size], skips.DECODE)
    reason_n = tf.tensor_scatter_nd_update(lost_n, row_m[:, None], reason_m)
    reason_n = tf.where(unreadable_n, skips.UNREADABLE, reason_n)
    good = tf.where(reason_m == 0)[:, 0]
    nearest = tf.searchsorted(tf.gather(row_m, good), tf.range(size, dtype=tf.int64))
    nearest = tf.minimum(nearest, tf.size(good) - 1)
    places_n = tf.cond(
        tf.size(good) > 0,
        lambda: tf.cast(tf.gather(good, nearest), tf.int32),
        lambda: tf.fill([size], blank),
    )
    return places_n, reason_n


def _zeros(spec: dict[str, tf.TensorSpec]) -> dict[str, tf.Tensor]:
    return {
        name: tf.zeros([size or 0 for size in tensor.shape], tensor.dtype)
        for name, tensor in spec.items()
    }


def _batch(samples: tf.data.Dataset, size: int) -> tf.data.Dataset:
    fixed = all(spec.shape.is_fully_defined() for spec in tf.nest.flatten(samples.element_spec))
    return samples.batch(size) if fixed else samples.ragged_batch(size)


def _sized(value: Any, size: int) -> Any:
    if isinstance(value, tf.Tensor):
        value.set_shape([size, *value.shape[1:]])
    return value

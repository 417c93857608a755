"""Preprocessing in small chunks, such that a bad sample costs neither the run nor its place.

TensorFlow has no exceptions inside a graph: an op that fails ends the element that it works on.
So a chunk of samples is prepared in one of two ways, which give the same samples:

- quickly, as much of it as possible in ops on the whole chunk and the rest in loops; one bad
  sample loses the whole chunk;
- carefully, if that failed: each sample is an element of a small dataset, from which bad ones
  drop out. `bad_samples` says what takes their place.

n samples of a chunk, F strings of a record.
"""

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from clipa_jax.data import bad_samples, map_chunk
from clipa_jax.data.map_chunk import REASON, PerSample, Samples
from clipa_jax.data.sources.base import Source
from clipa_jax.errors import DataError
from clipa_jax.preprocess import decode, draws, fusion, header
from clipa_jax.preprocess.registry import Function, Sample

CAPTIONS, SEPARATOR = "captions", "\0"
_PASSED = "_passed"  # features that no op reads
_FIELD = "_field"  # draws the field of the captions
_FIELD_POSITION = 1 << 14  # of this draw among those of the ops
Chunk = dict[str, tf.Tensor]
Map = Callable[[Samples, PerSample, int], tuple[Samples, tf.Tensor]]
Step = PerSample | Callable[[Samples], Samples]  # on each sample, or on all of a chunk
Process = Callable[[tf.data.Dataset], tf.data.Dataset]


def takes_captions(source: Source, preprocess: str) -> bool:
    """Whether an op needs captions; `DataError` if the source has none for it."""
    captions = any("text" in phase.entries for phase in fusion.phases(preprocess))
    if captions and not source.has_captions:
        names = ", ".join(source.features) or "(none)"
        legal = ", ".join(source.caption.names)
        raise DataError(
            f"{source.spec}: no captions among the features {names}; looked for {legal}"
            + source.no_text
        )
    return captions


def chunk_function(
    source: Source,
    preprocess: str,
    *,
    size: int,
    seed: int,
    keep: Sequence[str] | None,
    features: Sequence[str] = (),
    max_pixels: int = decode.MAX_PIXELS,
    clean: str = "none",
) -> tuple[Process, dict[str, tf.TensorSpec]]:
    """A function from a dataset of chunks of records to one of prepared chunks, and their spec.

    It takes chunks {"record": string (n, F), "count": int64 (n,)} of n = `size` samples and gives,
    in the same order, entries with a leading axis of n, and `REASON` int32 (n,). A sample draws
    from (seed, count). `keep` are the entries of the result, if the ops give them. None keeps all,
    for timings that stop at any op: an entry without a fixed shape is replaced by its size.
    `features` are further entries of the source that are passed on; captions joined by `SEPARATOR`,
    since lists of any length are slow. Pictures of more than `max_pixels` are not decoded, and
    captions are cleaned by `preprocess.cleaning`.
    """
    phases = fusion.phases(preprocess)
    captions = takes_captions(source, preprocess)
    parser = _Parser(source, tuple(features), captions, max_pixels, clean)
    steps = functools.partial(_steps, phases=phases, measured=keep is None)
    quickly = carefully = steps(PerSample(parser.parse))
    if source.can_parse_all and not features:
        quickly = steps(parser.parse_all)

    record_nF = tf.TensorSpec([size, source.width], tf.string)
    specs = {"record": record_nF, "count": tf.TensorSpec([size], tf.int64)}
    fields = captions and bool(source.caption.weights)
    drawn = _traced(functools.partial(_drawn, phases, size, seed, fields), specs)
    quick, careful = (
        _traced(functools.partial(_prepared, size, keep, *way), drawn.structured_outputs)
        for way in ((map_chunk.in_one_loop, quickly), (map_chunk.one_by_one, carefully))
    )
    return functools.partial(_process, drawn, quick, careful), careful.structured_outputs


@dataclass(frozen=True)
class _Parser:
    """Parses records, and checks whether their samples can be used."""

    source: Source
    features: tuple[str, ...]  # that are passed on
    captions: bool  # whether an op needs them; without one, a sample is bad
    max_pixels: int
    clean: str

    def _cleaned(self, parsed: Sample, draw: tf.Tensor | None) -> Sample:
        weights = self.source.caption.weights
        return bad_samples.cleaned(parsed, self.captions, self.clean, weights, draw)

    def parse(self, sample: Sample) -> Sample:
        """The entries of a record, and the reason if it cannot be used."""
        rest = {name: value for name, value in sample.items() if name not in ("record", _FIELD)}
        parsed = self.source.parse(sample["record"], self.features)
        parsed = self._cleaned(parsed, sample.get(_FIELD))
        reason = bad_samples.fault(parsed, self.captions, self.max_pixels)
        passed = {name: parsed[name] for name in self.features}
        passed |= {k: bad_samples.valid_utf8(passed[k]) for k in (CAPTIONS, "id") if k in passed}
        if CAPTIONS in passed:
            passed[CAPTIONS] = tf.strings.reduce_join(passed[CAPTIONS], separator=SEPARATOR)
        image = tf.where(reason == 0, parsed["image"], _blank())
        parsed.pop("id", None)  # no op needs it
        return {**rest, **parsed, "image": image, _PASSED: passed, REASON: reason}

    def parse_all(self, samples: Samples) -> Samples:
        """The entries of n records, in a few ops for all; an error if one is bad."""
        rest = {name: value for name, value in samples.items() if name not in ("record", _FIELD)}
        parsed = self.source.parse_all(samples["record"], captions=self.captions)
        images = map_chunk.array(parsed["image"])  # large, so they are not copied from here on
        parsed |= _sizes(parsed["image"], images)
        parsed = self._cleaned(parsed, samples.get(_FIELD))
        reason_n = bad_samples.fault(parsed, self.captions, self.max_pixels)
        with tf.control_dependencies([map_chunk.assert_good(reason_n)]):
            return {**rest, **parsed, "image": images.identity()}  # not decoded before the check


def _sizes(image_n: tf.Tensor, images: tf.TensorArray) -> Samples:
    """`header.added` for n pictures, given both as a tensor and as an array."""
    jpeg_n2 = header.jpeg_sizes(image_n)
    jpeg_n = tf.reduce_all(jpeg_n2 > 0, 1)

    def with_others() -> tuple[tf.Tensor, tf.Tensor]:
        known_n2 = jpeg_n2 + header.other_sizes(image_n)
        return tf.cond(tf.reduce_all(known_n2 > 0), lambda: (known_n2, jpeg_n), one_by_one)

    def one_by_one() -> tuple[tf.Tensor, tf.Tensor]:
        mapped = PerSample(header.added)
        sized, _ = map_chunk.in_one_loop({"image": images}, mapped, image_n.shape[0])
        return sized["_size"], sized["_jpeg"]

    size_n2, jpeg_n = tf.cond(tf.reduce_all(jpeg_n), lambda: (jpeg_n2, jpeg_n), with_others)
    return {"_size": size_n2, "_jpeg": jpeg_n}


def _steps(parse: Step, phases: Sequence[fusion.Phase], *, measured: bool) -> list[Step]:
    """The steps of a chunk; neighbors on single samples are one step.

    Captions are dropped as soon as no later op needs them: any number of them, put together for a
    chunk, is slow.
    """
    first: list[Function] = []
    if isinstance(parse, PerSample):
        first.append(parse.function)
    if phases and not phases[0].batched:
        first.append(phases[0].function)
        phases = phases[1:]
    steps: list[Step] = [
        phase.function if phase.batched else PerSample(phase.function) for phase in phases
    ]
    if not any("text" in phase.entries for phase in phases):
        first.append(lambda sample: {k: v for k, v in sample.items() if k != "captions"})
    if first:
        steps.insert(0, PerSample(_chain(first)))
    if not isinstance(parse, PerSample):
        steps.insert(0, parse)
    if measured and isinstance(steps[-1], PerSample):
        last = steps[-1].function
        if not isinstance(last, fusion.Switch):  # its result has a fixed shape
            steps[-1] = PerSample(_chain([last, _measured]))
    return steps


def _chain(functions: Sequence[Function]) -> Function:
    return lambda sample: functools.reduce(lambda value, f: f(value), functions, sample)


def _measured(sample: Sample) -> Sample:
    """Sizes in place of entries without a fixed shape."""
    return {
        name: tf.size(value)
        if isinstance(value, tf.Tensor) and not value.shape.is_fully_defined()
        else value
        for name, value in sample.items()
    }


def _traced(function: Callable[[Chunk], Chunk], specs: dict[str, tf.TensorSpec]) -> Any:
    return tf.function(function, autograph=False).get_concrete_function(specs)


def _drawn(
    phases: Sequence[fusion.Phase], size: int, seed: int, fields: bool, chunk: Chunk
) -> Chunk:
    """The records of a chunk of n = `size`, and the random numbers for them."""
    seed_n2 = tf.stack([tf.fill([size], tf.constant(seed, tf.int64)), chunk["count"]], 1)
    numbers = fusion.draw(phases, seed_n2)
    if fields:
        numbers[_FIELD] = draws.uniform(seed_n2 + [0, _FIELD_POSITION << 48], 1)[:, 0]
    return {"record": chunk["record"], **numbers}


def _prepared(
    size: int, keep: Sequence[str] | None, map_samples: Map, steps: Sequence[Step], chunk: Chunk
) -> Chunk:
    """A chunk of n = `size` after all steps, those on single samples mapped by `map_samples`."""
    samples = dict(chunk)
    unreadable_n = tf.reduce_all(tf.strings.length(chunk["record"]) == 0, 1)
    reason_n = tf.where(unreadable_n, bad_samples.UNREADABLE, 0)
    for step in steps:
        if isinstance(step, PerSample):
            samples, fault_n = map_samples(samples, step, size)
            reason_n = tf.where(reason_n == 0, fault_n, reason_n)
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
    """Chunks prepared quickly or, where that fails, carefully.

    Random numbers are drawn before, since that cannot fail: TensorFlow examines each op that may
    fail whenever it starts one of the two functions.
    """

    def prepare(chunk: Chunk) -> tf.data.Dataset:
        dataset = tf.data.Dataset.from_tensors(chunk)
        # The second part starts only if the first one is empty.
        quick = dataset.map(quickly).ignore_errors()
        return quick.concatenate(dataset.map(carefully)).take(1)

    options = tf.data.Options()
    options.deterministic = True
    # To tune itself, tf.data would read the clock before and after every op of every sample. A
    # chunk keeps one thread busy, so as many as there are cores is right.
    options.autotune.enabled = False
    cores = _cores()
    prepared = chunks.map(drawn).interleave(
        prepare, cycle_length=cores, num_parallel_calls=cores, deterministic=True
    )
    return prepared.with_options(options)


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def _blank() -> bytes:
    """A picture in place of one that is not decoded."""
    with tf.init_scope():
        return tf.io.encode_jpeg(tf.fill([1, 1, 3], tf.constant(255, tf.uint8))).numpy()

"""Samples of a source, decoded one by one, with the reason why one cannot be used.

Decoder and reasons are those of training (`data.bad_samples`).
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from clipa_jax.data import bad_samples, reading
from clipa_jax.data.sources.base import Source
from clipa_jax.prepare import near_duplicates
from clipa_jax.preprocess import decode, registry

# encoded bytes () and the picture uint8 (H, W, C) -> the bytes () to store
Encode = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


@dataclass(frozen=True)
class Sample:
    """One sample."""

    row: int  # its place in the shard
    reason: str  # why it cannot be used, from `bad_samples.REASONS`; "" if it can
    image: bytes = b""  # encoded, as in the source
    stored: bytes = b""  # encoded, for the dataset
    height: int = 0  # in pixels, in the source
    width: int = 0
    captions: tuple[bytes, ...] = ()  # valid UTF-8, without blank ones
    id: bytes = b""  # from the data; "" if it has none
    hash: int = 0  # of the picture, see perceptual.py, where it is wanted
    features: dict[str, Any] = field(default_factory=dict)  # further features by name


class SampleReader:
    """Reads and decodes the samples of a source on all cores.

    `encode` makes the bytes to store; None stores those of the source. Pictures of more than
    `max_pixels` are not decoded. `hashed` says whether samples carry their hash.
    """

    def __init__(
        self,
        source: Source,
        encode: Encode | None = None,
        features: Sequence[str] = (),
        max_pixels: int = decode.MAX_PIXELS,
        hashed: bool = False,
    ):
        source.check_features(features)
        self._source, self._encode, self._features = source, encode, tuple(features)
        self._max_pixels, self._hashed = max_pixels, hashed
        self._decode = registry.build("decode")
        # Traced once, not for every shard.
        self._function = tf.function(self._graph, autograph=False).get_concrete_function(
            tf.TensorSpec([], tf.int64), tf.TensorSpec([source.width], tf.string)
        )

    @property
    def spec(self) -> dict[str, tf.TensorSpec]:
        """Shape and type of the further features."""
        return {name: self._function.structured_outputs[name] for name in self._features}

    def read(self, shard: int, start: int, length: int) -> Iterator[Sample]:
        """The samples [start, start + length) of a shard, all of them and in order."""
        place = (tf.constant(number, tf.int64) for number in (shard, start, length))
        records = reading.records(self._source, *place)
        samples = records.enumerate().map(
            self._function, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        expected = start
        for values in samples.ignore_errors().prefetch(tf.data.AUTOTUNE).as_numpy_iterator():
            row = start + int(values["_row"])
            for lost in range(expected, row):
                yield Sample(lost, bad_samples.REASONS[bad_samples.DECODE])
            expected = row + 1
            yield self._sample(row, values)
        for lost in range(expected, start + length):
            yield Sample(lost, bad_samples.REASONS[bad_samples.DECODE])

    def _sample(self, row: int, values: dict[str, Any]) -> Sample:
        reason = bad_samples.REASONS[int(values["_reason"])]
        if reason:
            return Sample(row, reason, id=values["id"])
        image = values["image"]
        return Sample(
            row=row,
            reason=reason,
            image=image,
            stored=values["_stored"] if self._encode is not None else image,
            height=int(values["_shape"][0]),
            width=int(values["_shape"][1]),
            captions=tuple(values["captions"]),
            id=values["id"],
            hash=int(values["_hash"]),
            features={name: values[name] for name in self._features},
        )

    def _graph(self, row: tf.Tensor, record: tf.Tensor) -> dict[str, tf.Tensor]:
        """Parses and decodes one sample; fails where that fails."""
        unreadable = tf.reduce_all(record == "")
        sample = tf.cond(unreadable, self._blank, lambda: self._parse(record))
        captions = self._source.has_captions
        sample = bad_samples.cleaned(sample, captions)
        reason = bad_samples.fault(sample, captions, self._max_pixels)
        reason = tf.where(unreadable, bad_samples.UNREADABLE, reason)
        image = tf.cond(
            reason == 0,
            lambda: self._decode({"image": sample["image"]})["image"],
            lambda: tf.zeros([1, 1, 3], tf.uint8),
        )
        stored = self._encode(sample["image"], image) if self._encode else tf.constant("")
        return {
            **sample,
            "_row": row,
            "_reason": reason,
            "_shape": tf.shape(image),
            "_hash": near_duplicates.picture_hash(image)
            if self._hashed
            else tf.constant(0, tf.int64),
            "_stored": stored,
        }

    def _parse(self, record: tf.Tensor) -> dict[str, tf.Tensor]:
        sample = self._source.parse(record, self._features)
        return {name: sample[name] for name in ("image", "captions", "id", *self._features)}

    def _blank(self) -> dict[str, tf.Tensor]:
        """Zeros in place of an unreadable record."""
        record = tf.TensorSpec([self._source.width], tf.string)
        parsed = tf.function(self._parse, autograph=False).get_concrete_function(record)
        return {
            name: tf.zeros([size or 0 for size in spec.shape], spec.dtype)
            for name, spec in parsed.structured_outputs.items()
        }


def digest(*parts: bytes) -> bytes:
    """A hash of 16 bytes; it depends on the boundaries of the parts."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.digest()

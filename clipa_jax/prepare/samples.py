"""Samples of a source looked at one by one: whether they can be used, and what is in them.

What training would skip is found by the same decoder, under the same names
(`data.bad_samples`).
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from clipa_jax.data import bad_samples, reading
from clipa_jax.data.sources.base import Source
from clipa_jax.preprocess import decode, registry

# encoded bytes () and the picture uint8 (H, W, C) -> the bytes () to store
Encode = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


@dataclass(frozen=True)
class Seen:
    """One sample.

    Attributes:
      row: its place in the shard.
      reason: why it cannot be used, as in `bad_samples.REASONS`; "" if it can.
      image: encoded, as it came.
      stored: encoded, as it is to be stored.
      height, width: in pixels, as it came.
      captions: those that are not blank, as valid UTF-8.
      id: of the data; "" if it has none.
      features: further ones, by name.
    """

    row: int
    reason: str
    image: bytes = b""
    stored: bytes = b""
    height: int = 0
    width: int = 0
    captions: tuple[bytes, ...] = ()
    id: bytes = b""
    features: dict[str, Any] = field(default_factory=dict)


class Looker:
    """Looks at the samples of a source, on all cores.

    Args:
      source: where they are.
      encode: what is stored of a picture; None for the bytes as they are.
      features: further entries wanted.
      max_pixels: of a picture; a larger one is not decoded.
    """

    def __init__(
        self,
        source: Source,
        encode: Encode | None = None,
        features: Sequence[str] = (),
        max_pixels: int = decode.MAX_PIXELS,
    ):
        source.check_features(features)
        self._source, self._encode, self._features = source, encode, tuple(features)
        self._max_pixels = max_pixels
        self._decode = registry.build("decode")
        # Traced once, not for every shard.
        self._look = tf.function(self._graph, autograph=False).get_concrete_function(
            tf.TensorSpec([], tf.int64), tf.TensorSpec([source.width], tf.string)
        )

    @property
    def spec(self) -> dict[str, tf.TensorSpec]:
        """Shape and type of the further features."""
        return {name: self._look.structured_outputs[name] for name in self._features}

    def look(self, shard: int, start: int, length: int) -> Iterator[Seen]:
        """The samples [start, start + length) of a shard: each one, in their order."""
        place = (tf.constant(number, tf.int64) for number in (shard, start, length))
        records = reading.records(self._source, *place)
        looked = records.enumerate().map(
            self._look, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        expected = start
        for values in looked.ignore_errors().prefetch(tf.data.AUTOTUNE).as_numpy_iterator():
            row = start + int(values["_row"])
            for lost in range(expected, row):
                yield Seen(lost, bad_samples.REASONS[bad_samples.DECODE])
            expected = row + 1
            yield self._seen(row, values)
        for lost in range(expected, start + length):
            yield Seen(lost, bad_samples.REASONS[bad_samples.DECODE])

    def _seen(self, row: int, values: dict[str, Any]) -> Seen:
        reason = bad_samples.REASONS[int(values["_reason"])]
        if reason:
            return Seen(row, reason, id=values["id"])
        image = values["image"]
        return Seen(
            row=row,
            reason=reason,
            image=image,
            stored=values["_stored"] if self._encode is not None else image,
            height=int(values["_shape"][0]),
            width=int(values["_shape"][1]),
            captions=tuple(values["captions"]),
            id=values["id"],
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
            "_stored": stored,
        }

    def _parse(self, record: tf.Tensor) -> dict[str, tf.Tensor]:
        sample = self._source.parse(record, self._features)
        return {name: sample[name] for name in ("image", "captions", "id", *self._features)}

    def _blank(self) -> dict[str, tf.Tensor]:
        """What stands for a record that is not there."""
        record = tf.TensorSpec([self._source.width], tf.string)
        parsed = tf.function(self._parse, autograph=False).get_concrete_function(record)
        return {
            name: tf.zeros([size or 0 for size in spec.shape], spec.dtype)
            for name, spec in parsed.structured_outputs.items()
        }


def digest(*parts: bytes) -> bytes:
    """16 bytes that tell contents apart; where one part ends matters."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.digest()

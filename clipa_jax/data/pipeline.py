"""Batches on the host, from a source and a preprocessing string.

Everything runs in tf.data, on all cores of the process, except for the order of samples, which is
computed in numpy once per batch or window.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import tensorflow as tf

from clipa_jax.config.batch import TRAINING_KEYS
from clipa_jax.config.settings import Settings, choice
from clipa_jax.data import bad_samples, feed, map_chunk, mixing, reading, robust_map, sources
from clipa_jax.data.order import GlobalOrder, LaneOrder, Order, Shards
from clipa_jax.errors import ConfigError, DataError

Batch = dict[str, np.ndarray]
Position = dict[str, Any]


def fill(spec: str, section: Any) -> str:
    """A preprocessing string with the keys in braces filled in from a config section."""
    try:
        return spec.format_map(section)
    except (KeyError, IndexError) as error:
        raise ConfigError(f"no key {error} for the braces of {spec!r}") from None
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{spec!r}: {error}; write a literal brace twice") from None


def train_data(
    config: Settings,
    *,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
    preprocess: str | None = None,
    keep: Sequence[str] | None = TRAINING_KEYS,
) -> "TrainData":
    """Training data of this host, by the `input` section; `seed` is that of order and augmentation.

    `preprocess` stands in place of the section's ops; for `keep`, the entries of a batch, see
    `robust_map.chunk_function`. Anything wrong with the data or the config raises `UserError`.
    """
    source = open_source(config)
    if choice(config, "cache", ("none", "encoded")) == "encoded":
        source = _cached(source)
    lanes = config.lanes or default_lanes(config.batch_size, process_count)
    lanes = math.gcd(lanes, config.batch_size)
    window = config.shuffle_window or default_window(lanes)
    kind = choice(config, "order", ("auto", "global", "lanes"))
    order = _order(source, kind, seed=seed, lanes=lanes, window=window)
    preprocess = fill(config.preprocess, config) if preprocess is None else preprocess
    share = reading.Share.of(config.batch_size, process_index, process_count)
    process, out = robust_map.chunk_function(
        source,
        preprocess,
        size=share.chunk,
        seed=seed,
        keep=keep,
        max_pixels=config.max_pixels,
        clean=config.clean,
    )
    skips = bad_samples.SkipCounter(
        source, order, max_percent=config.max_skip_percent, epoch=source.num_examples
    )
    spec = _batch_spec(preprocess, out, config.batch_size)
    return TrainData(source, preprocess, spec, lanes, window, order, share, process, skips)


def default_lanes(batch_size: int, hosts: int) -> int:
    """Files that are read side by side: 16, or four a host, so that no two hosts share a lane."""
    each = {1: 16, 2: 8}.get(hosts, 4)
    return hosts * math.gcd(each, batch_size // hosts)


def default_window(lanes: int) -> int:
    """Samples that are shuffled together, of all lanes."""
    return max(16_384, 1_024 * lanes)


def open_source(config: Settings) -> sources.Source:
    """The source of an `input` section."""
    spec, caption = (
        value.as_dict() if isinstance(value, Settings) else value
        for value in (config.source, config.caption)
    )
    if not spec:
        raise DataError(f"{config.path}.source is empty; e.g. tfds:data/emoji/1.0.0")
    return sources.open(spec, config.split, caption=sources.Choice.of(caption))


def _cached(source: sources.Source) -> sources.Source:
    """The same source, kept in memory after the first read."""
    if isinstance(source, sources.Mixture):
        parts = [sources.MemorySource(part, reading.load) for part in source.components]
        return sources.Mixture(parts, source.weights, source.split)
    return sources.MemorySource(source, reading.load)


def _order(source: sources.Source, kind: str, *, seed: int, lanes: int, window: int) -> Order:
    """The order of training: global, lanes, or auto, which is global where random access costs
    nothing. `window` are the samples that are shuffled together, of all lanes and parts."""
    if isinstance(source, sources.Mixture):
        weights = mixing.whole_weights(source.weights)
        parts = [
            _order(part, kind, seed=seed, lanes=lanes, window=window * weight // sum(weights))
            for part, weight in zip(source.components, weights, strict=True)
        ]
        first = np.cumsum([0, *(len(part.shards) for part in source.components[:-1])])
        if all(isinstance(part, GlobalOrder) for part in parts):
            lanes = 1
        return mixing.MixedOrder(tuple(parts), mixing.Schedule(weights, lanes), first)
    if kind == "global" and not source.can_fetch:
        raise DataError(
            f"{source.spec}: its format has no random access, so order=global needs cache=encoded"
        )
    if kind == "global" or (kind == "auto" and source.random_access):
        return GlobalOrder(Shards.of(source), seed)
    return LaneOrder(Shards.of(source), seed, lanes, max(window // lanes, 1))


@dataclass(frozen=True, eq=False)
class TrainData:
    """Endless batches of a source, in an order that any run can continue."""

    source: sources.Source
    preprocess: str
    spec: dict[str, jax.ShapeDtypeStruct]  # shape and type of each entry of the global batch
    lanes: int  # that are read side by side, by all hosts
    window: int  # samples that are shuffled together, of all lanes
    _order: Order
    _share: reading.Share
    _process: robust_map.Process
    _skips: bad_samples.SkipCounter

    @property
    def num_examples(self) -> int:
        """Samples of an epoch."""
        return self.source.num_examples

    @property
    def chunk(self) -> int:
        """Samples that are prepared together."""
        return self._share.chunk

    @property
    def fingerprint(self) -> str:
        """Identifies the data: names and lengths of its shards, and the weights of a mixture."""
        shards = Shards.of(self.source)
        if isinstance(self.source, sources.Mixture):
            return shards.digest(*mixing.whole_weights(self.source.weights))
        return shards.digest()

    def skipped(self) -> dict[str, int]:
        """Samples of this host that could not be used, by reason."""
        return self._skips.counts

    def start(
        self, position: Position | None = None, left_out: Sequence[tuple[int, int]] = ()
    ) -> Iterator[tuple[Batch, Position]]:
        """This host's rows of each global batch, and the position after it.

        Continues at a `position` that came with an earlier batch, on any number of hosts; one of
        other data or another order raises `DataError`, and so do too many bad samples. Stretches
        [begin, end) of samples of the stage are left out; all are multiples of the batch size.
        """
        count = self._check(position)
        rows = self._order.rows(self._share.batch_size)[self._share.begin : self._share.end]
        while True:
            for begin, end in sorted(left_out):
                count = end if begin <= count < end else count
            for batch in feed.Feed(self._dataset(count)):
                batch = {key: np.asarray(value) for key, value in batch.items()}  # not a copy
                self._skips.add(batch.pop(map_chunk.REASON), count + rows)
                count += self._share.batch_size
                yield batch, {"samples": count, "order": self._order.fingerprint}
                if any(begin <= count < end for begin, end in left_out):
                    break

    def places(self, begin: int, end: int) -> dict[str, list[int]]:
        """The samples [begin, end) of the stage, of all hosts: by file, their numbers in it."""
        places: dict[str, list[int]] = {}
        for shard, index in zip(*self._order.locate(np.arange(begin, end)), strict=True):
            file = self.source.shards[shard]
            places.setdefault(file.path, []).append(file.start + int(index))
        return {path: sorted(numbers) for path, numbers in sorted(places.items())}

    def _check(self, position: Position | None) -> int:
        if position is None:
            return 0
        count, order = position["samples"], position["order"]
        if order != self._order.fingerprint or count % self._order.lanes:
            raise DataError(
                f"{self.source.spec}, split {self.source.split}: the saved position after "
                f"{count} samples belongs to another order of samples; keep the data, seed, "
                f"cache, order, lanes and shuffle_window of the run, and a batch size that its "
                f"lanes divide"
            )
        return count

    def chunks(self, count: int = 0) -> tf.data.Dataset:
        """This host's encoded samples from the batch that begins at `count` on, as read."""
        return reading.chunks(self.source, self._order, count, self._share)

    def _dataset(self, count: int) -> tf.data.Dataset:
        number = self._share.chunks
        batches = self._process(self.chunks(count))
        if number > 1:
            batches = batches.batch(number, drop_remainder=True).map(
                lambda batch: {k: tf.reshape(v, [-1, *v.shape[2:]]) for k, v in batch.items()}
            )
        return batches.prefetch(tf.data.AUTOTUNE)


def _batch_spec(
    preprocess: str, out: dict[str, tf.TensorSpec], batch_size: int
) -> dict[str, jax.ShapeDtypeStruct]:
    """The global batch, from the spec of a chunk."""
    out = {key: value for key, value in out.items() if key != map_chunk.REASON}
    for key, value in out.items():
        if not value.shape.is_fully_defined():
            raise ConfigError(
                f"{preprocess!r} gives {key} of no fixed shape {tuple(value.shape[1:])}; end "
                f"it with an op that fixes the size, such as inception_crop or resize"
            )
    return {
        key: jax.ShapeDtypeStruct((batch_size, *value.shape[1:]), value.dtype.as_numpy_dtype)
        for key, value in out.items()
    }

"""Embeddings of a dataset, on any number of devices and processes.

Every process feeds its share of each global batch and receives the embeddings of the whole batch.
One batch is in flight while the one before it is fetched. B global batch, E embedding,
R pixels a side, L text tokens, N texts.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding

from clipa_jax.config.batch import IMAGE, MASK
from clipa_jax.runtime import distributed

T = TypeVar("T")


class Encoders(Protocol):
    """The two towers on a mesh; `clipa_jax.training.steps.Encoders` is one."""

    @property
    def batch_sharding(self) -> NamedSharding: ...

    def image(self, params: Any, image_BRRC: jax.Array, /) -> jax.Array: ...

    def text(self, params: Any, tokens_BL: jax.Array, /) -> jax.Array: ...


def observed(
    encoders: Any, image: Callable[[jax.Array], Any], text: Callable[[jax.Array], Any]
) -> Any:
    """Encoders that call a function after each tower, with its embeddings (B, E).

    These may still be computed. An exception of the function ends the evaluation.
    """

    def after(tower: Callable[..., jax.Array], observe: Callable[[jax.Array], Any]) -> Any:
        def call(params: Any, batch: jax.Array) -> jax.Array:
            z_BE = tower(params, batch)
            observe(z_BE)
            return z_BE

        return call

    return replace(encoders, image=after(encoders.image, image), text=after(encoders.text, text))


@dataclass(frozen=True)
class Embedded:
    """Embeddings of pictures and their features, the same on every process."""

    image_NE: np.ndarray  # float32
    features: dict[str, list[Any]]  # by name, one entry a row: an int, a string or a list of them
    position_N: np.ndarray  # of each picture in its split, counting also those that are unusable

    def __len__(self) -> int:
        return len(self.image_NE)

    def rows(self, row_X: np.ndarray) -> "Embedded":
        """Some rows, by their numbers."""
        rows = row_X.tolist()
        features = {key: [values[row] for row in rows] for key, values in self.features.items()}
        return Embedded(self.image_NE[row_X], features, self.position_N[row_X])

    def batches(self, size: int) -> "Iterator[Embedded]":
        """All rows, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.rows(np.arange(start, min(start + size, len(self))))


def concatenated(parts: Sequence[Embedded]) -> Embedded:
    """The rows of all parts."""
    if not parts:
        return Embedded(np.zeros((0, 0), np.float32), {}, np.zeros(0, np.int64))
    keys = parts[0].features
    return Embedded(
        np.concatenate([part.image_NE for part in parts]),
        {key: [row for part in parts for row in part.features[key]] for key in keys},
        np.concatenate([part.position_N for part in parts]),
    )


def round_up(batch_size: int, sharding: NamedSharding) -> int:
    """The smallest global batch from `batch_size` on that divides over shards and processes."""
    axes = sharding.spec[0] if len(sharding.spec) else None
    axes = (axes,) if isinstance(axes, str) else axes or ()
    shards = math.prod(sharding.mesh.shape[axis] for axis in axes)
    step = math.lcm(shards, jax.process_count())
    return -(-batch_size // step) * step


def images(
    encoders: Encoders, params: Any, batches: Iterable[Mapping[str, Any]]
) -> Iterator[Embedded]:
    """Embeds the pictures of `batches`, dropping padding and pictures that cannot be used.

    A batch is this process's share of a global one: "image" uint8 (B / processes, R, R, 3),
    "_mask" bool, true for usable rows, and further features with one row each.
    """
    split = encoders.batch_sharding

    def started() -> Iterator[tuple[jax.Array, np.ndarray, dict[str, list[Any]], int]]:
        start = 0
        for batch in batches:
            image_BE = encoders.image(params, _from_share(np.asarray(batch[IMAGE]), split))
            features = {key: _plain(batch[key]) for key in batch if key not in (IMAGE, MASK)}
            yield image_BE, np.asarray(batch[MASK], bool), features, start
            start += image_BE.shape[0]

    for image_BE, mask, features, start in _one_behind(started()):
        z_BE = gather(image_BE)
        shares = distributed.from_all({"mask": mask.tolist(), "features": features})
        if len(shares) > 1:
            # The rows of a global array follow the mesh; the features follow the processes.
            slot = len(mask) * jax.process_index() + np.arange(len(mask), dtype=np.int32)
            z_BE = z_BE[np.argsort(gather(_from_share(slot, split)))]
        mask_B = np.concatenate([share["mask"] for share in shares])
        kept = {}
        for key in features:
            rows_B = itertools.chain.from_iterable(share["features"][key] for share in shares)
            kept[key] = list(itertools.compress(rows_B, mask_B))
        yield Embedded(z_BE[mask_B], kept, start + np.flatnonzero(mask_B))


def rows(
    tower: Callable[[Any, jax.Array], jax.Array],
    params: Any,
    x_N: np.ndarray,
    sharding: NamedSharding,
    batch_size: int,
) -> Iterator[tuple[slice, np.ndarray]]:
    """Embeds an array that every process holds whole, as pairs (rows, their float32 embeddings).

    `tower` maps (params, global batch) to embeddings, `x_N` are pictures or tokens, `sharding` is
    that of the tower's input, `batch_size` is rounded up to what divides; the last one is padded.
    """
    batch_size = round_up(batch_size, sharding)

    def started() -> Iterator[tuple[slice, jax.Array]]:
        for start in range(0, len(x_N), batch_size):
            part = slice(start, min(start + batch_size, len(x_N)))
            x_B = np.zeros((batch_size, *x_N.shape[1:]), x_N.dtype)
            x_B[: part.stop - start] = x_N[part]
            # Every process holds the array whole.
            whole = jax.make_array_from_callback(x_B.shape, sharding, x_B.__getitem__)
            yield part, tower(params, whole)

    for part, z_BE in _one_behind(started()):
        yield part, gather(z_BE)[: part.stop - part.start]


def gather(x: jax.Array) -> np.ndarray:
    """The whole of a global array on every process."""
    if not distributed.several():
        return np.asarray(x)
    return np.asarray(multihost_utils.process_allgather(x, tiled=True))


def _one_behind(items: Iterable[T]) -> Iterator[T]:
    """The items, each after the next one has been started."""
    held: list[T] = []
    for item in items:
        held.append(item)
        if len(held) > 1:
            yield held.pop(0)
    yield from held


def _plain(rows: Any) -> list[Any]:
    """Labels, strings or lists of them as plain Python values."""

    def plain(row: Any) -> Any:
        if isinstance(row, np.ndarray | np.generic):
            row = row.tolist()
        if isinstance(row, bytes):
            return row.decode(errors="replace")
        return [*map(plain, row)] if isinstance(row, list | tuple) else row

    return [*map(plain, rows)]


def _from_share(local: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """The global array of which this process holds `local`."""
    return jax.make_array_from_process_local_data(sharding, local)

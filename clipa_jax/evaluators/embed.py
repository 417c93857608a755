"""Embeddings of a dataset, on any number of devices and processes.

Every process feeds its share of each global batch and receives the embeddings of the whole batch.
One batch is in flight while the one before it is fetched. B global batch, E embedding,
R pixels a side, L text tokens, N texts.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding

from clipa_jax.config.batch import IMAGE, MASK


class Encoders(Protocol):
    """The two towers on a mesh; `clipa_jax.training.steps.Encoders` is one."""

    @property
    def batch_sharding(self) -> NamedSharding: ...

    def image(self, params: Any, image_BRRC: jax.Array, /) -> jax.Array: ...

    def text(self, params: Any, tokens_BL: jax.Array, /) -> jax.Array: ...


def observed(
    encoders: Any, image: Callable[[jax.Array], Any], text: Callable[[jax.Array], Any]
) -> Any:
    """Encoders that call a function with each batch of embeddings.

    Args:
      encoders: a dataclass with `image` and `text`.
      image, text: called after the tower, with (B, E) embeddings that may still be computed. An
        exception ends the evaluation.
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
    """Embeddings of pictures and their features, the same on every process.

    Attributes:
      image_NE: float32 embeddings.
      features: for each requested feature, one entry a row: an int, a string, or a list
        of strings.
      position_N: of each picture in its split, counting also those that cannot be used.
    """

    image_NE: np.ndarray
    features: dict[str, list[Any]]
    position_N: np.ndarray

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


def divisor(sharding: NamedSharding) -> int:
    """The number that a global batch must be a multiple of, for its shards and the processes."""
    axes = sharding.spec[0] if len(sharding.spec) else None
    axes = (axes,) if isinstance(axes, str) else axes or ()
    shards = math.prod(sharding.mesh.shape[axis] for axis in axes)
    return math.lcm(shards, jax.process_count())


def round_up(batch_size: int, sharding: NamedSharding) -> int:
    """The smallest batch that is at least `batch_size` and divides over the devices."""
    step = divisor(sharding)
    return -(-batch_size // step) * step


def images(
    encoders: Encoders, params: Any, batches: Iterable[Mapping[str, Any]]
) -> Iterator[Embedded]:
    """Embeds the pictures of `batches`, dropping padding and pictures that cannot be used.

    Args:
      encoders: the image tower and the layout of its input.
      params: the model's parameters.
      batches: this process's share of each global batch: "image" uint8 (B / processes, R, R,
        3), "_mask" bool, true for usable rows, and further features with one row each.
    """
    pending, start = None, 0
    for batch in batches:
        local = np.asarray(batch[IMAGE])
        image_BE = encoders.image(params, _from_share(local, encoders.batch_sharding))
        if pending:
            yield _finish(*pending)
        features = {key: _plain(batch[key]) for key in batch if key not in (IMAGE, MASK)}
        pending = (image_BE, encoders.batch_sharding, np.asarray(batch[MASK]), features, start)
        start += image_BE.shape[0]
    if pending:
        yield _finish(*pending)


def rows(
    tower: Callable[[Any, jax.Array], jax.Array],
    params: Any,
    x_N: np.ndarray,
    sharding: NamedSharding,
    batch_size: int,
) -> Iterator[tuple[slice, np.ndarray]]:
    """Embeds an array that every process holds whole, as pairs (rows, their float32 embeddings).

    Args:
      tower: (params, global batch) -> embeddings.
      params: the model's parameters.
      x_N: pictures or tokens, N along the first axis.
      sharding: of the tower's input.
      batch_size: global, rounded up to what divides; the last batch is padded.
    """
    batch_size = round_up(batch_size, sharding)
    pending = None
    for start in range(0, len(x_N), batch_size):
        part = slice(start, min(start + batch_size, len(x_N)))
        x_B = np.zeros((batch_size, *x_N.shape[1:]), x_N.dtype)
        x_B[: part.stop - start] = x_N[part]
        z_BE = tower(params, _from_whole(x_B, sharding))
        if pending:
            yield pending[0], gather(pending[1])[: pending[0].stop - pending[0].start]
        pending = (part, z_BE)
    if pending:
        yield pending[0], gather(pending[1])[: pending[0].stop - pending[0].start]


def texts(
    encoders: Encoders, params: Any, tokens_NL: np.ndarray, batch_size: int
) -> Iterator[tuple[slice, np.ndarray]]:
    """Embeds texts, int32 (N, L), over all devices; see `rows`."""
    return rows(encoders.text, params, tokens_NL, encoders.batch_sharding, batch_size)


def all_texts(
    encoders: Encoders, params: Any, tokens_NL: np.ndarray, batch_size: int
) -> np.ndarray:
    """Embeddings of all texts, float32 (N, E); see `rows`."""
    return np.concatenate([z for _, z in texts(encoders, params, tokens_NL, batch_size)])


def gather(x: jax.Array) -> np.ndarray:
    """The whole of a global array on every process."""
    if jax.process_count() == 1:
        return np.asarray(x)
    return np.asarray(multihost_utils.process_allgather(x, tiled=True))


def _finish(
    image_BE: jax.Array,
    sharding: NamedSharding,
    mask: np.ndarray,
    features: dict[str, list[Any]],
    start: int,
) -> Embedded:
    z_BE = gather(image_BE)
    shares = _gather_json({"mask": mask.astype(bool).tolist(), "features": features})
    if len(shares) > 1:
        # The rows of a global array follow the mesh; the features follow the processes.
        slot = len(mask) * jax.process_index() + np.arange(len(mask), dtype=np.int32)
        order_B = gather(_from_share(slot, sharding))
        z_BE = z_BE[np.argsort(order_B)]
    mask_B = np.concatenate([np.asarray(share["mask"], bool) for share in shares])
    merged = {
        key: [row for share in shares for row, m in _rows(share, key) if m] for key in features
    }
    return Embedded(z_BE[mask_B], merged, start + np.flatnonzero(mask_B))


def _rows(share: dict[str, Any], key: str) -> Iterator[tuple[Any, bool]]:
    return zip(share["features"][key], share["mask"], strict=True)


def _gather_json(value: Any) -> list[Any]:
    """One JSON-able value of each process, on every process, in the order of processes."""
    if jax.process_count() == 1:
        return [value]
    data = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.asarray(len(data)))
    padded = np.pad(data, (0, int(sizes.max()) - len(data)))
    everyone = multihost_utils.process_allgather(padded)
    return [
        json.loads(row[:size].tobytes()) for row, size in zip(everyone, sizes.ravel(), strict=True)
    ]


def _plain(rows: Any) -> list[Any]:
    """Labels, strings or lists of strings as plain Python values."""
    return [_plain_row(row) for row in rows]


def _plain_row(row: Any) -> Any:
    if isinstance(row, bytes):
        return row.decode()
    if isinstance(row, np.ndarray | list | tuple):
        if isinstance(row, np.ndarray) and row.ndim == 0:
            return _plain_row(row.item())
        return [_plain_row(entry) for entry in row]
    return row.item() if isinstance(row, np.generic) else row


def _from_share(local: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """The global array of which this process holds `local`."""
    return jax.make_array_from_process_local_data(sharding, local)


def _from_whole(x: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """The global array that every process holds whole."""
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

"""Sources of samples: a kind and a place, such as `webdataset:/data/*.tar`; or several."""

from collections.abc import Callable, Sequence

from clipa_jax.data.sources import mixture
from clipa_jax.data.sources.base import Shard, Source
from clipa_jax.data.sources.captions import Choice
from clipa_jax.data.sources.class_folders import ClassFoldersSource
from clipa_jax.data.sources.clip_benchmark import ClipBenchmarkSource
from clipa_jax.data.sources.folder import FolderSource
from clipa_jax.data.sources.karpathy import KarpathySource
from clipa_jax.data.sources.memory import MemorySource
from clipa_jax.data.sources.mixture import Mixture, Spec
from clipa_jax.data.sources.parquet import ParquetSource
from clipa_jax.data.sources.tfds import TfdsSource
from clipa_jax.data.sources.tfrecord import TfrecordSource
from clipa_jax.data.sources.webdataset import WebdatasetSource
from clipa_jax.errors import DataError, unknown

__all__ = ["KINDS", "Choice", "MemorySource", "Mixture", "Shard", "Source", "Spec", "open"]

KINDS: dict[str, Callable[[str, str, Sequence[str], Choice], Source]] = {
    "tfds": TfdsSource,
    "tfrecord": TfrecordSource,
    "webdataset": WebdatasetSource,
    "folder": FolderSource,
    "parquet": ParquetSource,
    "clip_benchmark": ClipBenchmarkSource,
    "class_folders": ClassFoldersSource,
    "karpathy": KarpathySource,
}

_USUAL = Choice()


def open(spec: Spec, split: str, features: Sequence[str] = (), caption: Choice = _USUAL) -> Source:
    """The split of a dataset, with `features` beside image, captions and id.

    `spec` is the kind of source and where it is, e.g. "tfds:data/emoji/1.0.0" or
    "tfrecord:gs://bucket/laion/*.tfrecord"; or a mixture, see `mixture.parts`. An unknown kind, or
    one without samples there, raises `DataError`, which says what was looked for.
    """
    parts = mixture.parts(spec)
    if parts is None:
        return _open_one(str(spec), split, features, caption)
    if not parts:
        raise DataError(f"source {spec!r}: a mixture of nothing")
    opened = [_open_one(source, split, features, caption) for source, _ in parts]
    weights = mixture.sizes_or([weight for _, weight in parts], opened)
    return opened[0] if len(opened) == 1 else Mixture(opened, weights, split)


def _open_one(spec: str, split: str, features: Sequence[str], caption: Choice) -> Source:
    kind, colon, rest = spec.partition(":")
    if not colon or not rest:
        raise DataError(f"source {spec!r}: expected KIND:WHERE with one of {', '.join(KINDS)}")
    if kind not in KINDS:
        raise DataError(f"source {spec!r}: " + unknown("kind", kind, KINDS))
    source = KINDS[kind](rest, split, features, caption)
    source.filled_files()
    return source

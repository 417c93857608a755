"""The interface of a source of samples, whatever its format."""

import abc
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from clipa_jax.data.sources import captions
from clipa_jax.errors import DataError, nearest

IMAGE_NAMES = ("image", "jpg", "jpeg", "png", "webp", "gif", "img")
IMAGE_SUFFIXES = ("jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp")
_LOOKED_AT = 4  # files whose records tell what the samples of a source have
ID_NAMES = ("id", "key", "__key__", "image/filename", "file_name", "url")


@dataclass(frozen=True)
class Shard:
    """A run of `length` samples in one file, behind its first `start` ones.

    `content` differs for shards of the same name and length.
    """

    path: str
    length: int
    start: int = 0
    content: str = ""

    @classmethod
    def of_names(cls, path: str, names: Sequence[str]) -> "Shard":
        """All of a folder or table, a sample for each name in it."""
        content = hashlib.sha256("\n".join(names).encode("utf8", "replace")).hexdigest()[:8]
        return cls(path, len(names), content=f"#{content}")

    @property
    def name(self) -> str:
        """The file's name, and where the shard starts inside it."""
        start = f"[{self.start}:]" if self.start else ""
        return self.path.rsplit("/", 1)[-1] + start + self.content


class Source(abc.ABC):
    """A split of a dataset: shards of known lengths, and how to read them.

    A record is a sample as it is read, before anything is decoded: F strings, all of them empty if
    the sample could not be read. A source is constructed from its place (`spec` without the kind),
    the split, the features that records carry and the choice of captions, as `KINDS` calls it;
    missing samples or pictures raise `DataError`.
    """

    spec: str  # as the user gave it
    split: str
    shards: tuple[Shard, ...]  # in a fixed order
    features: tuple[str, ...]  # names that samples can carry beside image, captions and id
    has_captions: bool
    caption: captions.Choice  # which of the fields are captions
    no_text: str = ""  # why a field of that name holds no captions, for messages
    width: int = 1  # F
    random_access: bool = False  # whether samples are read one by one as fast as in a row

    @property
    def num_examples(self) -> int:
        """Samples of an epoch."""
        return sum(shard.length for shard in self.shards)

    def filled_files(self) -> list[str]:
        """The files of the shards that have samples; `DataError` if there are none."""
        filled = [shard.path for shard in self.shards if shard.length]
        if not filled:
            raise empty_error(self.spec, self.split)
        return filled

    @abc.abstractmethod
    def read(self, shard: tf.Tensor, start: tf.Tensor, length: tf.Tensor) -> tf.data.Dataset:
        """Records string (F,), [start, start + length) of a shard, without decoding any.

        The arguments are tensors; used inside tf.data. An element that fails is a sample that
        cannot be read; those missing at the end likewise.
        """

    @abc.abstractmethod
    def parse(self, record: tf.Tensor, features: Sequence[str] = ()) -> dict[str, Any]:
        """A record (F,) -> the canonical sample, inside tf.data: image, string (), encoded and
        empty if missing; captions, string (n,), or a list of them, one for each field of which one
        is drawn; id, string () and empty if the data has none; and `features` under their own
        names."""

    def parse_all(self, record_nF: tf.Tensor, *, captions: bool) -> dict[str, Any]:
        """`parse` for n records in a few ops: image (n,) and, if wanted, ragged captions (n, None).

        For good records; of bad ones anything may come, or an error.
        """
        raise NotImplementedError(self.spec)

    @property
    def can_parse_all(self) -> bool:
        """Whether `parse_all` is implemented."""
        return type(self).parse_all is not Source.parse_all

    def fetch(self, shard_X: tf.Tensor, index_X: tf.Tensor) -> tf.Tensor:
        """Records (X, F) from anywhere, where the format allows it; inside tf.data."""
        raise NotImplementedError(self.spec)

    @property
    def can_fetch(self) -> bool:
        """Whether `fetch` is implemented."""
        return type(self).fetch is not Source.fetch

    def describe(self, shard: int, index: int) -> str:
        """The file of a sample and its index there, for messages."""
        return f"{self.shards[shard].path} sample {self.shards[shard].start + index}"

    def class_names(self, label: str) -> list[str] | None:
        """The names of the values of a label, where the source knows them."""
        del label
        return None

    def templates(self) -> list[str] | None:
        """Sentences with `{}` for a class's name, where the data brings its own."""
        return None

    def check_features(self, names: Iterable[str]) -> None:
        """Raises `DataError` if samples cannot carry one of these features."""
        for name in names:
            if name not in (*self.features, "captions", "id"):
                raise DataError(
                    f"{self.spec}, split {self.split}: no feature {name!r}; "
                    + nearest(name, self.features)
                )


def spread(items: Sequence[Any]) -> list[Any]:
    """A few of the items, evenly spread, the first one among them."""
    return list(items[:: max(-(-len(items) // _LOOKED_AT), 1)])


def empty_error(spec: str, split: str) -> DataError:
    """The error for a source without samples."""
    return DataError(f"source {spec!r}, split {split!r} is empty: no samples in its files")


def find_optional(names: Sequence[str], present: Iterable[str]) -> str | None:
    """The first of the usual `names` that a dataset has, if any."""
    present = set(present)
    return next((name for name in names if name in present), None)


def find(role: str, names: Sequence[str], present: Iterable[str], where: str) -> str:
    """The first of the usual `names` that a dataset has; `DataError` if it has none."""
    present = sorted(present)
    name = find_optional(names, present)
    if name is not None:
        return name
    raise DataError(
        f"{where}: no {role} among the features {', '.join(present) or '(none)'}; "
        f"looked for {', '.join(names)}"
    )

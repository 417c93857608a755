"""Options of a prepared dataset, checked before any work."""

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

from clipa_jax.errors import DataError, nearest, unknown

FORMATS = ("tfrecord", "array_record")
DUPLICATES = ("none", "image", "pair")  # equal samples of which one is kept


@dataclass(frozen=True)
class Options:
    """Everything that the bytes of a dataset depend on, except its input.

    Attributes:
      source: see `clipa_jax.data.sources.open`.
      split: of the source.
      name: of the dataset in TFDS.
      version: of the dataset in TFDS, "1.0.0".
      into: the split to write.
      file_format: one of `FORMATS`.
      seed: of the shuffle.
      num_shards: number of files; 0 derives it from `shard_mb`.
      shard_mb: approximate size of a file in MiB.
      resize: short side in pixels of larger pictures; 0 keeps all sizes.
      quality: of pictures that are encoded again, as JPEG.
      keep: further features of the source to carry over; scalars.
      duplicates: one of `DUPLICATES`: drop nothing, pictures of equal bytes, or those with equal
        captions too.
      min_side: pixels; pictures with a shorter side are dropped.
      max_aspect: long side over short side; longer pictures are dropped, 0 for none.
      min_chars, max_chars: of a stripped caption; 0 for no limit.
      min_words: of a caption.
      holdout: share of the kept samples that goes to the split `holdout_into`.
      holdout_into: name of that split.
    """

    source: str
    split: str = "train"
    name: str = "pairs"
    version: str = "1.0.0"
    into: str = "train"
    file_format: str = "tfrecord"
    seed: int = 0
    num_shards: int = 0
    shard_mb: float = 256.0
    resize: int = 0
    quality: int = 92
    keep: tuple[str, ...] = ()
    duplicates: str = "pair"
    min_side: int = 0
    max_aspect: float = 0.0
    min_chars: int = 0
    max_chars: int = 0
    min_words: int = 0
    holdout: float = 0.0
    holdout_into: str = "validation"

    def __post_init__(self) -> None:
        """Raises `DataError` for values that cannot be used."""
        if self.file_format not in FORMATS:
            raise DataError(unknown("file format", self.file_format, FORMATS))
        if self.duplicates not in DUPLICATES:
            raise DataError(unknown("kind of duplicates", self.duplicates, DUPLICATES))
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise DataError(f"name={self.name!r}: expected small letters, digits and _")
        if not re.fullmatch(r"\d+\.\d+\.\d+", self.version):
            raise DataError(f"version={self.version!r}: expected three numbers, such as 1.0.0")
        for key in ("into", "holdout_into"):
            if not re.fullmatch(r"\w+", getattr(self, key)):
                raise DataError(f"{key}={getattr(self, key)!r}: expected letters, digits and _")
        if not 0 <= self.holdout < 1 or (self.holdout and self.into == self.holdout_into):
            raise DataError(
                f"holdout={self.holdout} into {self.holdout_into}: expected a share from 0 to 1, "
                f"such as 2%, and another split than {self.into}"
            )
        if not 1 <= self.quality <= 100:
            raise DataError(f"quality={self.quality}: expected 1 to 100")
        if self.shard_mb <= 0:
            raise DataError(f"shard_mb={self.shard_mb}: expected a positive size")
        if self.max_aspect and self.max_aspect < 1:
            raise DataError(f"max_aspect={self.max_aspect}: expected 0, or a ratio of at least 1")
        for key in ("num_shards", "resize", "min_side", "min_chars", "max_chars", "min_words"):
            if getattr(self, key) < 0:
                raise DataError(f"{key}={getattr(self, key)} is negative")
        if self.max_chars and self.max_chars < self.min_chars:
            raise DataError(f"max_chars={self.max_chars} is below min_chars={self.min_chars}")
        if len(set(self.keep)) < len(self.keep) or {"image", "captions", "id"} & set(self.keep):
            raise DataError(
                f"keep={','.join(self.keep)}: name each further feature once; image, captions "
                f"and id are always kept"
            )

    def as_dict(self) -> dict[str, Any]:
        """The options as JSON."""
        return dataclasses.asdict(self) | {"keep": list(self.keep)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Options":
        """The inverse of `as_dict`.

        Raises:
          DataError: an unknown option.
        """
        fields = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in fields:
                raise DataError(f"unknown option {key!r}; {nearest(key, fields)}")
        return cls(**values | {"keep": tuple(values.get("keep", ()))})


def parse_share(name: str, text: str) -> float:
    """`2%` or `0.02` -> 0.02, "" -> 0.

    Raises:
      DataError: neither form.
    """
    number = text.removesuffix("%")
    try:
        return float(number or 0) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise DataError(f"{name}={text}: expected a share such as 2% or 0.02") from None

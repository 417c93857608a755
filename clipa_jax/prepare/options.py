"""What a prepared dataset is made from and how: checked before any work."""

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

from clipa_jax.errors import DataError, nearest, unknown

FORMATS = ("tfrecord", "array_record")
DUPLICATES = ("none", "image", "pair")  # what may be there only once


@dataclass(frozen=True)
class Options:
    """Everything that the bytes of a dataset depend on, beside its input.

    Attributes:
      source: see `clipa_jax.data.sources.open`.
      split: of the source.
      name: of the dataset, as TFDS has it.
      version: likewise, "1.0.0".
      into: the split that is written.
      file_format: one of `FORMATS`.
      seed: of the shuffle.
      num_shards: how many files; 0 for as many as `shard_mb` asks for.
      shard_mb: size of a file in MiB, about.
      resize: short side in pixels of pictures that are larger; 0 leaves sizes alone.
      quality: of pictures that are encoded anew, as JPEG.
      keep: further features of the source that are carried over; scalars.
      duplicates: one of `DUPLICATES`: nothing is dropped, pictures of the same bytes, or those
        with the same captions too.
      min_side: pixels of the short side; smaller pictures are dropped.
      max_aspect: long side over short side; longer ones are dropped, 0 for none.
      min_chars, max_chars: of a caption without blanks around it; 0 for no limit.
      min_words: likewise.
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

    def __post_init__(self) -> None:
        """Raises `DataError` for values that cannot be used."""
        if self.file_format not in FORMATS:
            raise DataError(unknown("file format", self.file_format, FORMATS))
        if self.duplicates not in DUPLICATES:
            raise DataError(unknown("kind of duplicates", self.duplicates, DUPLICATES))
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise DataError(f"name={self.name!r}: TFDS wants small letters, digits and _")
        if not re.fullmatch(r"\d+\.\d+\.\d+", self.version):
            raise DataError(f"version={self.version!r}: expected three numbers, such as 1.0.0")
        if not re.fullmatch(r"\w+", self.into):
            raise DataError(f"into={self.into!r}: a split is letters, digits and _, as in train")
        if not 1 <= self.quality <= 100:
            raise DataError(f"quality={self.quality}: expected 1 to 100")
        if self.shard_mb <= 0:
            raise DataError(f"shard_mb={self.shard_mb}: a file needs some room")
        if self.max_aspect and self.max_aspect < 1:
            raise DataError(f"max_aspect={self.max_aspect}: long over short side is 1 at least")
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
        """For the record, as JSON has it."""
        return dataclasses.asdict(self) | {"keep": list(self.keep)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Options":
        """What `as_dict` gave.

        Raises:
          DataError: a name that is no option.
        """
        fields = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in fields:
                raise DataError(f"unknown option {key!r}; {nearest(key, fields)}")
        return cls(**values | {"keep": tuple(values.get("keep", ()))})

"""Options of a prepared dataset, checked before any work."""

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

from clipa_jax.errors import DataError, nearest, unknown

DIRECT = "direct"  # the runner in this process
FORMATS = ("tfrecord", "array_record")
_LISTS = ("keep", "exclude")  # options with several values
DUPLICATES = ("none", "image", "pair")  # equal samples of which one is kept


def option(default: Any = dataclasses.MISSING, *, help: str, **metadata: Any) -> Any:  # noqa: A002
    """A field with the help of its flag."""
    return dataclasses.field(default=default, metadata={"help": help, **metadata})


@dataclass(frozen=True)
class Options:
    """Everything that the bytes of a dataset depend on; each is a flag of the command."""

    source: str = option(help="As config.input.source has it.")
    split: str = option("train", help="Split of the source, where it has splits.")
    name: str = option("pairs", help="Name of the dataset.")
    version: str = option("1.0.0", help="Its version.")
    into: str = option("train", help="The split to write.")
    file_format: str = option("tfrecord", help="Of the files.", choices=FORMATS)
    seed: int = option(0, help="Of the shuffle.")
    num_shards: int = option(0, help="Number of files; 0 derives it from shard_mb.")
    shard_mb: float = option(256.0, help="Size of a file in MiB.")
    resize: int = option(0, help="Short side of larger pictures in pixels; 0 keeps all sizes.")
    quality: int = option(92, help="Of pictures that are encoded again, as JPEG.")
    keep: tuple[str, ...] = option((), help="Further scalar features to carry over: label,url.")
    duplicates: str = option(
        "pair",
        help="Of which one sample is kept: equal pictures, or those with equal captions too.",
        choices=DUPLICATES,
    )
    min_side: int = option(0, help="Drop pictures with a shorter side, in pixels.")
    max_aspect: float = option(0.0, help="Drop pictures whose long side is more times the short.")
    min_chars: int = option(0, help="Drop captions with fewer characters.")
    max_chars: int = option(0, help="Drop captions with more characters.")
    min_words: int = option(0, help="Drop captions with fewer words.")
    min_score: float = option(0.0, help="Drop pairs of a smaller similarity; needs scores.")
    scores: str = option("", help="Folder of `embed --scores` on the source.", on_disk=True)
    exclude: tuple[str, ...] = option(
        (),
        help="Evaluation sets whose pictures are dropped: imagenet1k,folder:DIR,tfds:DIR@test.",
    )
    exclude_root: str = option("", help="A folder with the sets that are given by name.")
    exclude_distance: int = option(
        6, help="Bits of 64 in which the hashes of like pictures differ."
    )
    holdout: float = option(0.0, help="Share to hold out of training, such as 2%.", percent=True)
    holdout_into: str = option("validation", help="The split with that share.")

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
        if self.min_score and not self.scores:
            raise DataError(
                f"min_score={self.min_score} needs scores=, the folder of "
                "`python -m clipa_jax.embed --scores` on the source"
            )
        if not 0 <= self.exclude_distance < 32:
            raise DataError(f"exclude_distance={self.exclude_distance}: expected 0 to 31")
        if self.max_chars and self.max_chars < self.min_chars:
            raise DataError(f"max_chars={self.max_chars} is below min_chars={self.min_chars}")
        if len(set(self.keep)) < len(self.keep) or {"image", "captions", "id"} & set(self.keep):
            raise DataError(
                f"keep={','.join(self.keep)}: name each further feature once; image, captions "
                f"and id are always kept"
            )

    def as_dict(self) -> dict[str, Any]:
        """The options as JSON."""
        return dataclasses.asdict(self) | {key: list(getattr(self, key)) for key in _LISTS}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Options":
        """The inverse of `as_dict`; `DataError` for an unknown option."""
        fields = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in fields:
                raise DataError(f"unknown option {key!r}; {nearest(key, fields)}")
        return cls(**values | {key: tuple(values.get(key, ())) for key in _LISTS})


def parse_share(name: str, text: str) -> float:
    """`2%` or `0.02` -> 0.02, "" -> 0."""
    number = text.removesuffix("%")
    try:
        return float(number or 0) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise DataError(f"{name}={text}: expected a share such as 2% or 0.02") from None

"""An evaluator's held-out split: checked when the run starts, read when it is evaluated."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipa_jax.data import eval_batches
from clipa_jax.errors import DataError
from clipa_jax.evaluators import data_fingerprint


@dataclass(frozen=True, kw_only=True)
class ReadConfig:
    """Keys of every evaluator."""

    preprocess: str | None = None  # ops on the pictures; None for those of the run
    batch_size: int = 256  # global; rounded up to a multiple of the devices


@dataclass(frozen=True)
class EvalInfo:
    """The data behind an evaluator's scores; scores are comparable only where it is the same."""

    source: str
    split: str
    data_fingerprint: str  # distinguishes data of the same name, see `data_fingerprint.of_data`
    preprocess: str  # ops on the pictures
    prompts: Sequence[str] | None = None  # the texts of all classes, in order
    num_examples: int | None = None  # of the split, if known


@dataclass(frozen=True)
class Dataset:
    """One split of a source, as an evaluator reads it."""

    evaluator: str  # its name in `config.evals`, for messages
    source: str  # such as "tfds:data/emoji/1.0.0"
    split: str
    preprocess: str  # ops that make "image" of a sample
    batch_size: int  # global, a multiple of the data-parallel devices
    # Read beside the picture: the keys of a dict that all evaluators of the split share, and that
    # grows while they are built.
    features: dict[str, None]
    opened: Any  # the source, which knows its class names

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Identifies the pictures and how they are batched."""
        return self.source, self.split, self.preprocess, self.batch_size

    def batches(self) -> Iterator[dict[str, Any]]:
        """This process's share of each global batch, the last one padded."""
        return eval_batches.Split(*self.key, tuple(self.features)).batches()

    def pictures(self, position_N: np.ndarray) -> np.ndarray:
        """Decodes some pictures of the split, uint8 (N, R, R, 3), by their positions in it.

        Only on a single process: pixels stay on the process that read them.
        """
        return eval_batches.Split(*self.key, tuple(self.features)).pictures(position_N)

    def info(self, prompts: Sequence[str] | None = None) -> EvalInfo:
        """The data and the prompts, for the record; reads the sizes of the files."""
        fingerprint = data_fingerprint.of_data(self.opened)
        total = self.opened.num_examples
        return EvalInfo(self.source, self.split, fingerprint, self.preprocess, prompts, total)

    def class_names(self, label: str) -> tuple[str, ...]:
        """Names of the values of `label`, as the source gives them; `DataError` if it has none."""
        names = self.opened.class_names(label)
        if names is None:
            raise self.error(
                f"the data has no class names for {label!r}; set classes= to a JSON file with "
                f"them, or to a known dataset"
            )
        return tuple(names)

    def error(self, message: str) -> DataError:
        """A `DataError` that names the evaluator and its data."""
        return DataError(
            f"evaluator {self.evaluator} on {self.source}, split {self.split}: {message}"
        )


@dataclass(frozen=True)
class Gallery:
    """A split with embeddings, for the report: pictures, captions, and which belong together.

    N pictures, all with a caption, M captions, E embedding, P right pairs.
    """

    data: Dataset
    row_N: np.ndarray  # of each picture among the usable ones of the split
    position_N: np.ndarray  # of each picture in the split, as `Dataset.pictures` takes it
    captions: tuple[str, ...]  # class names, for a classification
    image_NE: np.ndarray  # unit-length embeddings, float32
    caption_ME: np.ndarray
    pairs_P2: np.ndarray  # rows (picture, right caption); every picture has one or more
    scale: float  # inverse temperature: similarities times it are logits

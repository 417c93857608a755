"""An evaluator's held-out data: checked when the run starts, read when it is evaluated."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipa_jax.config.batch import IMAGE, MASK
from clipa_jax.data import pipeline, sources
from clipa_jax.errors import DataError, MissingData, UserError
from clipa_jax.evaluators import data_fingerprint, embed
from clipa_jax.evaluators.context import About, Environment


@dataclass(frozen=True)
class Dataset:
    """One split of a source, as one evaluator reads it.

    Attributes:
      evaluator: the name in the config's `evals`, for messages.
      source: e.g. "tfds:data/emoji/1.0.0".
      split: e.g. "heldout_vendor".
      preprocess: ops that make "image" of a sample.
      batch_size: global, a multiple of the data-parallel devices.
      features: what is read beside the picture.
      opened: the source, which knows its class names.
    """

    evaluator: str
    source: str
    split: str
    preprocess: str
    batch_size: int
    features: tuple[str, ...]
    opened: Any

    @classmethod
    def open(
        cls,
        env: Environment,
        evaluator: str,
        source: str,
        split: str,
        *,
        preprocess: str | None,
        batch_size: int,
        features: tuple[str, ...],
    ) -> "Dataset":
        """Checks that the data is there without reading it.

        Raises:
          DataError: missing data or features; says for which evaluator.
        """
        if batch_size < 1:
            raise DataError(f"evaluator {evaluator}: batch_size={batch_size} must be at least 1")
        batch_size = embed.round_up(batch_size, env.encoders.batch_sharding)
        preprocess = env.preprocess_image if preprocess is None else preprocess
        try:
            opened = sources.open(source, split)
        except MissingData as error:
            raise error.of(f"evaluator {evaluator}") from None
        except UserError as error:
            raise DataError(f"evaluator {evaluator}: {error}") from None
        return cls(evaluator, source, split, preprocess, batch_size, features, opened)

    def batches(self) -> Iterator[dict[str, Any]]:
        """This process's share of each global batch, the last one padded."""
        return pipeline.evaluation(
            self.source,
            self.split,
            self.preprocess,
            self.batch_size,
            features=self.features,
        )

    def pictures(self, row_N: np.ndarray) -> np.ndarray:
        """Some pictures of the split, uint8 (N, R, R, 3), by where they lie in it.

        Only on a single process: a picture's pixels stay on the process that read it.
        """
        slots: dict[int, list[int]] = {}
        for slot, row in enumerate(row_N.tolist()):
            slots.setdefault(row, []).append(slot)
        found: dict[int, np.ndarray] = {}
        start = 0
        for batch in self.batches():
            image_BRRC = batch[IMAGE][np.asarray(batch[MASK], bool)]
            for row in range(start, start + len(image_BRRC)):
                for slot in slots.get(row, ()):
                    found[slot] = image_BRRC[row - start]
            start += len(image_BRRC)
            if len(found) == len(row_N):
                return np.stack([found[slot] for slot in range(len(row_N))])
        raise self.error(f"{start} pictures, but number {max(slots)} is asked for")

    def about(self, prompts: Sequence[str] | None = None) -> About:
        """What is evaluated, for the record; looks at the sizes of the files.

        Args:
          prompts: the texts that stand for classes, where there are such.
        """
        data = data_fingerprint.of_data(self.opened)
        total = self.opened.num_examples
        return About(self.source, self.split, data, self.preprocess, prompts, total)

    def class_names(self, label: str) -> tuple[str, ...]:
        """The names that the source gives to the values of `label`.

        Raises:
          DataError: it gives none.
        """
        names = self.own_names(label)
        if names is None:
            raise self.error(
                f"the data has no class names for {label!r}; set classes= to a JSON file with "
                f"them, or to a data set of the tables"
            )
        return tuple(names)

    def own_names(self, label: str) -> list[str] | None:
        """What the source calls the values of `label`, where it says so."""
        return self.opened.class_names(label)

    def error(self, message: str) -> DataError:
        """A `DataError` that says which evaluator and which data."""
        return DataError(
            f"evaluator {self.evaluator} on {self.source}, split {self.split}: {message}"
        )

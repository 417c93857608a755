"""A split with embeddings and captions, for the report's page of single pictures.

N pictures, M captions, E embedding, P right pairs.
"""

from dataclasses import dataclass

import numpy as np

from clipa_jax.evaluators.dataset import Dataset


@dataclass(frozen=True)
class Gallery:
    """Pictures, captions, and which of them belong together.

    Attributes:
      data: the split.
      row_N: of each picture among the usable ones of the split; those of no caption are left out.
      position_N: of each picture in the split, as `Dataset.pictures` takes it.
      captions: class names, for a classification.
      image_NE, caption_ME: unit-length embeddings, float32.
      pairs_P2: rows (picture, right caption); every picture has one or more.
      scale: inverse temperature: similarities times it are logits.
    """

    data: Dataset
    row_N: np.ndarray
    position_N: np.ndarray
    captions: tuple[str, ...]
    image_NE: np.ndarray
    caption_ME: np.ndarray
    pairs_P2: np.ndarray
    scale: float

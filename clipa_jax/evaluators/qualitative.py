"""A whole split as a model sees it: what a look at single pictures needs.

N pictures, M captions, E embedding, P right pairs.
"""

from dataclasses import dataclass

import numpy as np

from clipa_jax.evaluators.dataset import Dataset


@dataclass(frozen=True)
class Gallery:
    """Pictures, captions, and which of them belong together.

    Attributes:
      data: where the pictures come from.
      row_N: where each picture lies in it; those of no caption are left out.
      captions: of a classification, the class names.
      image_NE, caption_ME: unit-length embeddings, float32.
      pairs_P2: rows (picture, right caption); every picture has one or more.
      scale: inverse temperature: similarities times it are logits.
    """

    data: Dataset
    row_N: np.ndarray
    captions: tuple[str, ...]
    image_NE: np.ndarray
    caption_ME: np.ndarray
    pairs_P2: np.ndarray
    scale: float

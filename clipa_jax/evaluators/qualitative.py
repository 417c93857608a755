"""A split with embeddings and captions, for the report's page of single pictures.

N pictures, M captions, E embedding, P right pairs.
"""

from dataclasses import dataclass

import numpy as np

from clipa_jax.evaluators.dataset import Dataset


@dataclass(frozen=True)
class Gallery:
    """Pictures that have a caption, captions, and which of them belong together."""

    data: Dataset
    row_N: np.ndarray  # of each picture among the usable ones of the split
    position_N: np.ndarray  # of each picture in the split, as `Dataset.pictures` takes it
    captions: tuple[str, ...]  # class names, for a classification
    image_NE: np.ndarray  # unit-length embeddings, float32
    caption_ME: np.ndarray
    pairs_P2: np.ndarray  # rows (picture, right caption); every picture has one or more
    scale: float  # inverse temperature: similarities times it are logits

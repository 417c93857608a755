"""What zero-shot evaluation does beside the towers, in full, on embeddings that are made up.

B batch, C classes, E embedding.
"""

import time
from dataclasses import dataclass

import numpy as np

from clipa_jax.evaluators import bootstrap, classification, embed, labels


@dataclass(frozen=True)
class Parts:
    """Seconds of each part of one evaluation, in the order of the report."""

    image_tower: float
    text_tower: float
    tokenizing: float
    class_embeddings: float
    scores_and_ranks: float
    metrics_and_intervals: float

    @property
    def beside(self) -> float:
        """Share of the whole that is not the image tower's."""
        total = sum(vars(self).values())
        return 1 - self.image_tower / total


def bookkeeping(pictures: int, classes: int, width: int, batch: int) -> tuple[float, float]:
    """Seconds of scores and ranks, and of metrics with their intervals, at full size.

    Args:
      pictures: scored, in batches of `batch`.
      classes: C.
      width: of the embedding.
      batch: B.
    """
    rng = np.random.default_rng(0)
    class_CE = rng.normal(size=(classes, width)).astype(np.float32)
    image_BE = rng.normal(size=(batch, width)).astype(np.float32)
    read = labels.Labels("label", np.arange(classes), classes, labels.ERROR, ValueError)
    metric = classification.METRICS["accuracy"]
    label_N = rng.integers(0, classes, pictures)
    began, parts = time.perf_counter(), []
    for start in range(0, pictures, batch):
        label_B = label_N[start : start + batch].tolist()
        right_BC = read.of(embed.Batch(image_BE[: len(label_B)], {"label": label_B}))
        parts.append(metric.of_batch(image_BE[: len(label_B)] @ class_CE.T, right_BC))
    ranked = time.perf_counter()
    ids = np.asarray([f"ILSVRC2012_val_{number:08d}" for number in range(pictures)])
    for _, outcome in metric.outcomes(ids, classification.joined(parts), classes):
        bootstrap.interval(outcome)
    return ranked - began, time.perf_counter() - ranked

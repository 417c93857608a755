"""The training loss on held-out pairs. N pairs, E embedding."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from clipa_jax.evaluators import embed, scores
from clipa_jax.evaluators.context import About, Environment, Evaluator, HasParams
from clipa_jax.evaluators.dataset import Dataset
from clipa_jax.evaluators.outcome import Outcome, unique_ids
from clipa_jax.evaluators.retrieval import present


class Contrastive(Evaluator):
    """CLIP's softmax loss on held-out pairs in fixed batches: `loss`, in nats.

    Pairs compete in batches of `batch_size` that depend on the pairs' ids alone, so the
    value is the same on any number of devices and processes. The last batch is filled up
    with pairs that were counted before (`scores.contrastive_loss`). A caption that reads
    like another pair's in its batch counts as wrong, as it does in training.

    Args:
      env: encoders and defaults.
      name: the evaluator's name in the config, for messages.
      source: dataset, e.g. "tfds:data/emoji/1.0.0".
      split: e.g. "heldout_vendor".
      caption: position of the caption that is used among a picture's captions.
      candidates: pairs that compete; take the training batch to compare with the
        training loss. The number of pairs, where there are fewer.
      preprocess: ops for the pictures; None for the run's own.
      batch_size: global, for embedding; rounded up to what divides over the devices.
    """

    def __init__(
        self,
        *,
        env: Environment,
        name: str,
        source: str,
        split: str,
        caption: int = 0,
        candidates: int = 256,
        preprocess: str | None = None,
        batch_size: int = 256,
    ):
        self._env, self._caption, self._candidates = env, caption, candidates
        self._data = Dataset.open(
            env,
            name,
            source,
            split,
            preprocess=preprocess,
            batch_size=batch_size,
            features=("captions", "id"),
        )
        if candidates < 2 or caption < 0:
            raise self._data.error(
                f"candidates={candidates} must be at least 2 and caption={caption} at least 0"
            )

    def about(self) -> About:
        """What is evaluated."""
        return self._data.about()

    def outcomes(self, state: HasParams) -> Iterator[tuple[str, Outcome]]:
        """Yields `loss` for the parameters of `state`; a sample is a pair among its batch."""
        encoders, params = self._env.encoders, state.params
        parts, captions, ids = [], [], []
        for batch in embed.images(encoders, params, self._data.batches()):
            parts.append(batch.image_BE)
            captions += [self._chosen(row) for row in batch.features["captions"]]
            ids += batch.features["id"]
        if not captions:
            raise self._data.error("no pictures")
        tokens_NL = self._env.tokenize(captions)
        text_NE = embed.all_texts(encoders, params, tokens_NL, self._data.batch_size)
        order = sorted(range(len(ids)), key=lambda row: (_digest(ids[row]), row))
        image_NE, text_NE = np.concatenate(parts)[order], text_NE[order]
        scale = self._env.scale(params)
        loss_N = scores.contrastive_losses(image_NE, text_NE, scale, self._candidates)
        outcome = Outcome.mean(unique_ids([ids[row] for row in order]), loss_N)
        yield "loss", replace(outcome, value=scores.contrastive_loss(loss_N, self._candidates))

    def _chosen(self, row: list[str]) -> str:
        captions = present(row)
        if self._caption >= len(captions):
            raise self._data.error(
                f"caption={self._caption}, but a picture has {len(captions)} captions"
            )
        return captions[self._caption]


def _digest(sample_id: str) -> str:
    # Neighbouring ids are often alike (flags, one album): a batch of them would be harder.
    return hashlib.sha256(str(sample_id).encode()).hexdigest()

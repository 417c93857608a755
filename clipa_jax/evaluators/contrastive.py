"""The training loss on held-out pairs. N pairs, E embedding."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from clipa_jax.evaluators import scores
from clipa_jax.evaluators.context import EvalContext, Evaluator, HasParams
from clipa_jax.evaluators.dataset import EvalInfo, ReadConfig
from clipa_jax.evaluators.outcome import Outcome, unique_ids
from clipa_jax.evaluators.pairs import nonempty


@dataclass(frozen=True, kw_only=True)
class ContrastiveConfig(ReadConfig):
    """Keys of a `contrastive` section."""

    source: str  # such as "tfds:data/emoji/1.0.0"
    split: str
    caption: int = 0  # position of the one that is used among a picture's captions
    candidates: int = 256  # pairs that compete: the training batch, to compare with its loss


class Contrastive(Evaluator):
    """CLIP's softmax loss on held-out pairs in fixed batches: `loss`, in nats.

    Pairs compete in batches of `candidates` that depend on the pairs' ids alone, so the
    value is the same on any number of devices and processes. The last batch is filled up
    with pairs that were counted before (`scores.contrastive_losses`). A caption that equals
    another pair's in its batch counts as wrong, as it does in training.
    """

    Config = ContrastiveConfig

    def __init__(self, config: ContrastiveConfig, context: EvalContext, name: str):
        self._config, self._context = config, context
        features = ("captions", "id")
        self._data = context.dataset(name, config.source, config.split, config, features)
        if config.candidates < 2 or config.caption < 0:
            raise self._data.error(
                f"candidates={config.candidates} must be at least 2 and caption={config.caption} "
                "at least 0"
            )

    def info(self) -> EvalInfo:
        """The data."""
        return self._data.info()

    def outcomes(self, state: HasParams) -> Iterator[tuple[str, Outcome]]:
        """Yields `loss` for the parameters of `state`; a sample is a pair among its batch."""
        split = self._context.embedded(state.params, self._data)
        captions = [self._chosen(nonempty(row)) for row in split.features["captions"]]
        text_NE = self._context.texts(state.params, captions, self._data.batch_size)
        ids, candidates = split.features["id"], self._config.candidates
        order = sorted(range(len(ids)), key=lambda row: (_digest(ids[row]), row))
        scale = self._context.scale(state.params)
        loss_N = scores.contrastive_losses(split.image_NE[order], text_NE[order], scale, candidates)
        outcome = Outcome.mean(unique_ids([ids[row] for row in order]), loss_N)
        yield "loss", replace(outcome, value=scores.contrastive_loss(loss_N, candidates))

    def _chosen(self, captions: list[str]) -> str:
        if self._config.caption >= len(captions):
            raise self._data.error(
                f"caption={self._config.caption}, but a picture has {len(captions)} captions"
            )
        return captions[self._config.caption]


def _digest(sample_id: str) -> str:
    # Neighboring ids are often alike (flags, one album): a batch of them would be harder.
    return hashlib.sha256(str(sample_id).encode()).hexdigest()

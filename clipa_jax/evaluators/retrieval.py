"""Image-text retrieval: the caption of a picture, and the picture of a caption.

N pictures, M captions, E embedding, P right pairs (picture, caption).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from clipa_jax.errors import ConfigError, unknown
from clipa_jax.evaluators import catalogue, pairs
from clipa_jax.evaluators.catalogue import DataConfig
from clipa_jax.evaluators.context import EvalContext, Evaluator, HasParams
from clipa_jax.evaluators.dataset import EvalInfo, Gallery
from clipa_jax.evaluators.embed import Embedded
from clipa_jax.evaluators.outcome import Outcome, unique_ids


@dataclass(frozen=True, kw_only=True)
class RetrievalConfig(DataConfig):
    """Keys of a `retrieval` section."""

    # Positions among a picture's captions that are used, those it has; None for the dataset's,
    # or all.
    captions: Sequence[int] | None = None
    least: int | None = None  # captions that a picture must have; None for the dataset's, or one
    # A name in `pairs.RIGHT`; None for "own" with a dataset of the catalogue, as others count,
    # else "same_text".
    right: str | None = None
    ks: Sequence[int] = (1, 5, 10)  # of R@k


class Retrieval(Evaluator):
    """R@k both ways: `i2t_r1`, `t2i_r1`, ..., as shares of the queries in [0, 1].

    A query counts at k if any of its right answers is among the best k of all candidates, as in
    CLIP_benchmark. Every caption of every picture is a candidate and a query of its own, also
    one that equals another.
    """

    Config = RetrievalConfig

    def __init__(self, config: RetrievalConfig, context: EvalContext, name: str):
        entry = catalogue.entry(config, context.root, name, catalogue.RETRIEVAL)
        right = config.right or ("own" if config.dataset else "same_text")
        if right not in pairs.RIGHT:
            raise ConfigError(f"evaluator {name}: {unknown('right', right, pairs.RIGHT)}")
        features = ("captions", "id")
        data = context.dataset(name, entry.source, entry.split, config, features)
        if not data.opened.has_captions:
            raise data.error("the data has no captions, which retrieval needs")
        captions, ks = entry.captions, tuple(config.ks)
        if captions is not None and (not captions or min(captions) < 0):
            raise data.error(f"captions={captions} must be positions from 0, or None for all")
        if not ks or min(ks) < 1:
            raise data.error(f"ks={ks} must be numbers from 1")
        self._context, self._data, self._entry = context, data, entry
        self._pairs, self._ks = pairs.RIGHT[right], ks

    def info(self) -> EvalInfo:
        """The data."""
        return self._data.info()

    def outcomes(self, state: HasParams) -> Iterator[tuple[str, Outcome]]:
        """Yields R@k for the parameters of `state`; a sample is a query."""
        split = self._context.embedded(state.params, self._data)
        captions = self._captions(split)
        text_ME = self._texts(state, [text for row in captions for text in row])
        ids, pairs_P2 = unique_ids(split.features["id"]), self._pairs(captions)
        yield from pairs.recalls(split.image_NE, text_ME, pairs_P2, ids, captions, self._ks)

    def gallery(self, state: HasParams) -> Gallery:
        """All pictures and captions as `state` embeds them; equal captions are one."""
        split = self._context.embedded(state.params, self._data)
        captions = self._captions(split)
        texts: dict[str, str] = {}
        key = pairs.text_key
        for text in (text for row in captions for text in row):
            texts.setdefault(key(text), text)
        number = {text: m for m, text in enumerate(texts)}
        pairs_P2 = np.array([(n, number[key(t)]) for n, row in enumerate(captions) for t in row])
        pictures = np.arange(len(split)), split.position_N, tuple(texts.values()), split.image_NE
        caption_ME = self._texts(state, [*texts.values()])
        scale = self._context.scale(state.params)
        return Gallery(self._data, *pictures, caption_ME, pairs_P2, scale)

    def _texts(self, state: HasParams, texts: Sequence[str]) -> np.ndarray:
        return self._context.texts(state.params, texts, self._data.batch_size)

    def _captions(self, split: Embedded) -> list[list[str]]:
        """The captions of each picture that are used."""
        return [
            self._chosen(id_, pairs.nonempty(row))
            for id_, row in zip(split.features["id"], split.features["captions"], strict=True)
        ]

    def _chosen(self, picture: str, captions: list[str]) -> list[str]:
        positions, least, count = self._entry.captions, self._entry.least, len(captions)
        if count < least:
            raise self._data.error(
                f"picture {picture!r} has {count} captions, at least {least} are needed"
            )
        chosen = [
            captions[i] for i in (range(count) if positions is None else positions) if i < count
        ]
        if not chosen:
            raise self._data.error(
                f"picture {picture!r} with {count} captions has none at captions={positions}"
            )
        return chosen

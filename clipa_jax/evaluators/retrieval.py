"""Image-text retrieval: the caption of a picture, and the picture of a caption.

N pictures, M captions, E embedding, P right pairs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipa_jax.errors import ConfigError, MissingData, unknown
from clipa_jax.evaluators import catalogue, scores
from clipa_jax.evaluators.catalogue import DataConfig
from clipa_jax.evaluators.context import EvalContext, Evaluator, HasParams
from clipa_jax.evaluators.dataset import EvalInfo
from clipa_jax.evaluators.outcome import Outcome, unique_ids
from clipa_jax.evaluators.qualitative import Gallery

OWN, SAME_TEXT = "own", "same_text"


@dataclass(frozen=True, kw_only=True)
class RetrievalConfig(DataConfig):
    """Keys of a `retrieval` section.

    Attributes:
      captions: positions among a picture's captions that are used; None for all. A picture
        that has fewer uses those it has.
      least: captions that every picture must have; None for one.
      right: which captions are right for a picture, a name in `RIGHT`; None for "own" with a
        data set of the catalogue, as others count, else "same_text".
      ks: the k of R@k.
    """

    captions: Sequence[int] | None = None
    least: int | None = None
    right: str | None = None
    ks: Sequence[int] = (1, 5, 10)


class Retrieval(Evaluator):
    """R@k both ways: `i2t_r1`, `t2i_r1`, ..., as shares of the queries in [0, 1].

    A query counts at k if any of its right answers is among the best k of all candidates, as in
    CLIP_benchmark. Every caption of every picture is a candidate and a query of its own, also
    one that equals another.
    """

    Config = RetrievalConfig

    def __init__(self, config: RetrievalConfig, context: EvalContext, name: str):
        try:
            entry = catalogue.choose(
                config.dataset, config.root, config.source, catalogue.RETRIEVAL
            )
        except MissingData as error:
            raise error.of(f"evaluator {name}") from None
        split = config.split or entry.split
        for key, value in (("source", entry.source), ("split", split)):
            if not value:
                raise ConfigError(
                    f"evaluator {name}: {key}= is needed, or dataset= with a known name"
                )
        right = config.right or (OWN if config.dataset else SAME_TEXT)
        if right not in RIGHT:
            raise ConfigError(f"evaluator {name}: {unknown('right', right, RIGHT)}")
        every = None if entry.captions is None else range(entry.captions)
        self._captions = every if config.captions is None else config.captions
        self._least = config.least or entry.captions or 1
        self._context, self._pairs, self._ks = context, RIGHT[right], tuple(config.ks)
        self._data = context.dataset(name, entry.source, split, config, ("captions", "id"))
        self._check()

    def _check(self) -> None:
        captions, ks = self._captions, self._ks
        if not self._data.opened.has_captions:
            raise self._data.error("the data has no captions, which retrieval needs")
        if captions is not None and (not captions or min(captions) < 0):
            raise self._data.error(f"captions={captions} must be positions from 0, or None for all")
        if not ks or min(ks) < 1:
            raise self._data.error(f"ks={ks} must be numbers from 1")

    def info(self) -> EvalInfo:
        """The data."""
        return self._data.info()

    def outcomes(self, state: HasParams) -> Iterator[tuple[str, Outcome]]:
        """Yields R@k for the parameters of `state`; a sample is a query."""
        split = self._context.embedded(state.params, self._data)
        captions = self._chosen(split.features)
        text_ME = self._texts(state, [text for row in captions for text in row])
        pairs_P2 = self._pairs(captions)
        ids = unique_ids(split.features["id"])
        yield from recalls(split.image_NE, text_ME, pairs_P2, ids, captions, self._ks)

    def gallery(self, state: HasParams) -> Gallery:
        """All pictures and captions as `state` embeds them; equal captions are one."""
        split = self._context.embedded(state.params, self._data)
        rows = self._chosen(split.features)
        captions: dict[str, str] = {}
        for row in rows:
            for text in row:
                captions.setdefault(_key(text), text)
        number = {key: m for m, key in enumerate(captions)}
        texts = list(captions.values())
        return Gallery(
            data=self._data,
            row_N=np.arange(len(rows)),
            position_N=split.position_N,
            captions=tuple(texts),
            image_NE=split.image_NE,
            caption_ME=self._texts(state, texts),
            pairs_P2=np.array([(n, number[_key(t)]) for n, row in enumerate(rows) for t in row]),
            scale=self._context.scale(state.params),
        )

    def _texts(self, state: HasParams, texts: Sequence[str]) -> np.ndarray:
        return self._context.texts(state.params, texts, self._data.batch_size)

    def _chosen(self, features: dict[str, list[Any]]) -> list[list[str]]:
        """The captions of each picture that are used."""
        return [
            self._of_picture(id_, nonempty(row))
            for id_, row in zip(features["id"], features["captions"], strict=True)
        ]

    def _of_picture(self, picture: str, captions: list[str]) -> list[str]:
        if len(captions) < self._least:
            raise self._data.error(
                f"picture {picture!r} has {len(captions)} captions, at least {self._least} are "
                "needed"
            )
        if self._captions is None:
            return captions
        chosen = [captions[i] for i in self._captions if i < len(captions)]
        if not chosen:
            raise self._data.error(
                f"picture {picture!r} with {len(captions)} captions has none at "
                f"captions={self._captions}"
            )
        return chosen


def recalls(
    image_NE: np.ndarray,
    text_ME: np.ndarray,
    pairs_P2: np.ndarray,
    ids: Sequence[str],
    captions: Sequence[Sequence[str]],
    ks: Sequence[int],
) -> Iterator[tuple[str, Outcome]]:
    """R@k in both directions.

    Args:
      image_NE, text_ME: embeddings.
      pairs_P2: rows (picture, right caption).
      ids: of the pictures, no two the same.
      captions: of each picture; M in all.
      ks: the k of R@k.
    """
    counts = [len(row) for row in captions]
    text_ids = [f"{id_}/{n}" for id_, count in zip(ids, counts, strict=True) for n in range(count)]
    picture_M = np.repeat(np.arange(len(ids)), counts)
    for direction, queries, units, ranks in (
        ("i2t", ids, None, scores.best_ranks(image_NE, text_ME, pairs_P2)),
        ("t2i", text_ids, picture_M, scores.best_ranks(text_ME, image_NE, pairs_P2[:, ::-1])),
    ):
        for k in ks:
            yield f"{direction}_r{k}", Outcome.mean(queries, ranks < k, units)


def nonempty(captions: Sequence[str]) -> list[str]:
    """A picture's captions without the empty ones, which may pad a batch."""
    return [text for text in captions if text.strip()]


def own_pairs(captions: Sequence[Sequence[str]]) -> np.ndarray:
    """Pairs (picture, caption) of the data, int64 (P, 2).

    Args:
      captions: of each picture. Caption m is the m-th of the flat list.
    """
    picture_M = np.repeat(np.arange(len(captions)), [len(row) for row in captions])
    return np.stack([picture_M, np.arange(len(picture_M))], axis=1)


def same_text_pairs(captions: Sequence[Sequence[str]]) -> np.ndarray:
    """As `own_pairs`, but captions that are equal up to case and spaces belong to the same
    pictures: a model cannot tell them apart, so none of them counts as a miss."""
    pictures_of: dict[str, set[int]] = {}
    for picture, row in enumerate(captions):
        for text in row:
            pictures_of.setdefault(_key(text), set()).add(picture)
    flat = [text for row in captions for text in row]
    pairs = [(p, m) for m, text in enumerate(flat) for p in sorted(pictures_of[_key(text)])]
    return np.asarray(pairs, np.int64).reshape(-1, 2)


def _key(text: str) -> str:
    return " ".join(text.casefold().split())


RIGHT = {OWN: own_pairs, SAME_TEXT: same_text_pairs}

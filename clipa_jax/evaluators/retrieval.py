"""Image-text retrieval: which caption belongs to a picture, which picture to a caption.

N pictures, M captions, E embedding, P right pairs.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from clipa_jax.errors import ConfigError, MissingData, unknown
from clipa_jax.evaluators import catalogue, embed, scores
from clipa_jax.evaluators.context import About, Environment, Evaluator, HasParams
from clipa_jax.evaluators.dataset import Dataset
from clipa_jax.evaluators.outcome import Outcome, unique_ids
from clipa_jax.evaluators.qualitative import Gallery


class Retrieval(Evaluator):
    """R@k both ways: `i2t_r1`, `t2i_r1`, ..., as shares of the queries in [0, 1].

    A query counts as found at k if any of its right answers is among the best k of all
    candidates, as in CLIP_benchmark. Every caption of every picture is a candidate and a
    query of its own, also one that reads like another.

    Args:
      env: encoders and defaults.
      name: the evaluator's name in the config, for messages.
      dataset: a name in the catalogue (`tables/datasets.json`), e.g. "mscoco_captions", which then
        says what is not given of the next five; None where the data is given.
      root: a folder with data sets, for `dataset`; "" for those of TFDS alone.
      source: the data, e.g. "tfds:data/emoji/1.0.0".
      split: e.g. "heldout_vendor".
      captions: positions among a picture's captions that are used; None for all. A picture
        that has fewer uses those it has.
      least: captions that every picture must have; None for one.
      right: which captions are right for a picture, a name in `RIGHT`; None for "own" with a
        data set of the catalogue, as others count, else "same_text".
      ks: the k of R@k.
      preprocess: ops for the pictures; None for the run's own.
      batch_size: global; rounded up to what divides over the devices.
    """

    def __init__(
        self,
        *,
        env: Environment,
        name: str,
        dataset: str | None = None,
        root: str = "",
        source: str | None = None,
        split: str | None = None,
        captions: Sequence[int] | None = None,
        least: int | None = None,
        right: str | None = None,
        ks: Sequence[int] = (1, 5, 10),
        preprocess: str | None = None,
        batch_size: int = 256,
    ):
        try:
            entry = catalogue.choose(dataset, root, source, catalogue.RETRIEVAL)
        except MissingData as error:
            raise error.of(f"evaluator {name}") from None
        source, split = entry.source, split or entry.split
        if not source or not split:
            lacking = "split" if source else "source"
            raise ConfigError(
                f"evaluator {name}: {lacking}= is needed, or dataset= with a known name"
            )
        right = right or (OWN if dataset else SAME_TEXT)
        if right not in RIGHT:
            raise ConfigError(f"evaluator {name}: {unknown('right', right, RIGHT)}")
        if captions is None and entry.captions:
            captions = range(entry.captions)
        self._env = env
        self._pairs = RIGHT[right]
        self._captions = None if captions is None else tuple(captions)
        self._least = least or entry.captions or 1
        self._ks = tuple(ks)
        self._data = Dataset.open(
            env,
            name,
            source,
            split,
            preprocess=preprocess,
            batch_size=batch_size,
            features=("captions", "id"),
        )
        if not self._data.opened.has_captions:
            raise self._data.error("the data has no captions, and retrieval is about them")
        if self._captions is not None and (not self._captions or min(self._captions) < 0):
            raise self._data.error(f"captions={captions} must be positions from 0, or None for all")
        if not self._ks or min(self._ks) < 1:
            raise self._data.error(f"ks={ks} must be numbers from 1")

    def about(self) -> About:
        """What is evaluated."""
        return self._data.about()

    def outcomes(self, state: HasParams) -> Iterator[tuple[str, Outcome]]:
        """Yields R@k for the parameters of `state`; a sample is a query."""
        given, captions, image_NE = self._pictures(state)
        ids = unique_ids(given)
        text_ME = self._embedded(state, [text for row in captions for text in row])
        pairs_P2 = self._pairs(captions)
        rows = zip(ids, captions, strict=True)
        text_ids = [f"{one}/{n}" for one, row in rows for n in range(len(row))]
        picture_M = np.repeat(np.arange(len(ids)), [len(row) for row in captions])
        for direction, queries, units, ranks in (
            ("i2t", ids, None, scores.best_ranks(image_NE, text_ME, pairs_P2)),
            ("t2i", text_ids, picture_M, scores.best_ranks(text_ME, image_NE, pairs_P2[:, ::-1])),
        ):
            for k in self._ks:
                yield f"{direction}_r{k}", Outcome.mean(queries, ranks < k, units)

    def gallery(self, state: HasParams) -> Gallery:
        """All pictures and captions as the parameters of `state` embed them.

        Captions that read the same are one.
        """
        _, rows, image_NE = self._pictures(state)
        captions: dict[str, str] = {}
        for row in rows:
            for text in row:
                captions.setdefault(_key(text), text)
        place = {key: m for m, key in enumerate(captions)}
        texts = list(captions.values())
        return Gallery(
            data=self._data,
            row_N=np.arange(len(rows)),
            captions=tuple(texts),
            image_NE=image_NE,
            caption_ME=self._embedded(state, texts),
            pairs_P2=np.array([(n, place[_key(t)]) for n, row in enumerate(rows) for t in row]),
            scale=self._env.scale(state.params),
        )

    def _pictures(self, state: HasParams) -> tuple[list[str], list[list[str]], np.ndarray]:
        """Of all pictures: ids as given, the captions that are used, and embeddings (N, E)."""
        parts, captions, ids = [], [], []
        for batch in embed.images(self._env.encoders, state.params, self._data.batches()):
            parts.append(batch.image_BE)
            named = zip(batch.features["id"], batch.features["captions"], strict=True)
            captions += [self._chosen(one, row) for one, row in named]
            ids += batch.features["id"]
        if not captions:
            raise self._data.error("no pictures")
        return ids, captions, np.concatenate(parts)

    def _embedded(self, state: HasParams, texts: list[str]) -> np.ndarray:
        tokens_ML = self._env.tokenize(texts)
        return embed.all_texts(self._env.encoders, state.params, tokens_ML, self._data.batch_size)

    def _chosen(self, picture: str, row: Sequence[str]) -> list[str]:
        there = present(row)
        if len(there) < self._least:
            raise self._data.error(
                f"picture {picture!r} has {len(there)} captions, at least {self._least} are needed"
            )
        if self._captions is None:
            return there
        captions = [there[i] for i in self._captions if i < len(there)]
        if not captions:
            raise self._data.error(
                f"picture {picture!r} with {len(there)} captions has none at "
                f"captions={self._captions}"
            )
        return captions


def present(row: Sequence[str]) -> list[str]:
    """A picture's captions without the empty ones, which may pad a batch."""
    return [text for text in row if text.strip()]


def own_pairs(captions: Sequence[Sequence[str]]) -> np.ndarray:
    """Pairs (picture, caption) of the data, int64 (P, 2).

    Args:
      captions: of each picture. Caption m is the m-th of the flat list.
    """
    picture_M = np.repeat(np.arange(len(captions)), [len(row) for row in captions])
    return np.stack([picture_M, np.arange(len(picture_M))], axis=1)


def same_text_pairs(captions: Sequence[Sequence[str]]) -> np.ndarray:
    """As `own_pairs`, but captions that are equal but for case and spaces belong to the same
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


OWN, SAME_TEXT = "own", "same_text"
RIGHT = {OWN: own_pairs, SAME_TEXT: same_text_pairs}

"""Right pairs of pictures and captions, and recall among them.

N pictures, M captions, E embedding, P right pairs (picture, caption). Caption m of a list of
captions for each picture is the m-th of the flat list.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from clipa_jax.evaluators import scores
from clipa_jax.evaluators.outcome import Outcome


def recalls(
    image_NE: np.ndarray,
    text_ME: np.ndarray,
    pairs_P2: np.ndarray,
    ids: Sequence[str],
    captions: Sequence[Sequence[str]],
    ks: Sequence[int],
) -> Iterator[tuple[str, Outcome]]:
    """R@k in both directions; `ids` and `captions` are those of each picture."""
    picture_M = own_pairs(captions)[:, 0]
    text_ids = [
        f"{id_}/{n}" for id_, row in zip(ids, captions, strict=True) for n in range(len(row))
    ]
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
    """Pairs (picture, caption) of the data, int64 (P, 2)."""
    picture_M = np.repeat(np.arange(len(captions)), [len(row) for row in captions])
    return np.stack([picture_M, np.arange(len(picture_M))], axis=1)


def same_text_pairs(captions: Sequence[Sequence[str]]) -> np.ndarray:
    """As `own_pairs`, but captions that are equal up to case and spaces belong to the same
    pictures: a model cannot tell them apart, so none of them counts as a miss."""
    keys_of = [[text_key(text) for text in row] for row in captions]
    pictures_of: dict[str, dict[int, None]] = {}
    for picture, row in enumerate(keys_of):
        for key in row:
            pictures_of.setdefault(key, {})[picture] = None
    flat = [key for row in keys_of for key in row]
    pairs = [(picture, m) for m, key in enumerate(flat) for picture in pictures_of[key]]
    return np.asarray(pairs, np.int64).reshape(-1, 2)


def text_key(text: str) -> str:
    """The same for captions that are equal up to case and spaces."""
    return " ".join(text.casefold().split())


RIGHT = {"own": own_pairs, "same_text": same_text_pairs}  # the right captions of each picture

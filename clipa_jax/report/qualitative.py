"""Makes the held-out evidence of a model: pictures, captions and confusions worth a look.

Which pictures and captions are looked at is drawn at random, the same for every model on the
same data, so that nothing is picked to please. N pictures, M captions, E embedding, B rows of a
chunk, S pixels a side as kept.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from clipa_jax import evaluators, loading
from clipa_jax.config.settings import Settings
from clipa_jax.errors import DataError
from clipa_jax.evaluation.held_out import Confused, Guess, HeldOut, Hit, Shown, Sought
from clipa_jax.evaluators import HasParams, Retrieval, ZeroShot, scores
from clipa_jax.evaluators.qualitative import Gallery

# How many are kept for the page: pictures, captions, pictures of a caption, pairs.
PICTURES, CAPTIONS, HITS, PAIRS = 24, 12, 6, 12
TOP = 5  # captions of a picture
SIDE = 96  # pixels; larger pictures are reduced
SEED = 0
_WORTH = 0.01  # probabilities below this do not count as confusion


def chosen(built: Mapping[str, Any]) -> tuple[str, ZeroShot | Retrieval] | None:
    """The evaluator to look through, with its name: the first zero-shot one, else retrieval."""
    for kind in (ZeroShot, Retrieval):
        for name, evaluator in built.items():
            if isinstance(evaluator, kind):
                return name, evaluator
    return None


def look(name: str, evaluator: ZeroShot | Retrieval, state: HasParams) -> HeldOut:
    """What the parameters of `state` make of held-out pictures.

    Uses the embeddings of the last evaluation, and decodes only the pictures that are kept.

    Args:
      name: the evaluator's name in the config.
      evaluator: whose pictures and captions.
      state: holds the parameters.

    Raises:
      DataError: on several processes, since a picture's pixels stay on the process that read it.
    """
    if jax.process_count() > 1:
        raise DataError("held-out pictures can be looked at on a single process only")
    gallery = evaluator.gallery(state)
    rng = np.random.default_rng(SEED)
    num_pictures = len(gallery.image_NE)
    picture_N = np.sort(rng.permutation(num_pictures)[:PICTURES])
    answered_M = np.unique(gallery.pairs_P2[:, 1])  # captions that have a picture
    caption_M = np.sort(rng.permutation(answered_M)[:CAPTIONS])
    places = _Places()
    shown = _shown(gallery, picture_N, places)
    sought = _sought(gallery, caption_M, places)
    confused = _confused(gallery, places)
    image_NRRC = gallery.data.pictures(gallery.position_N[places.pictures])
    return HeldOut(
        evaluator=name,
        source=gallery.data.source,
        split=gallery.data.split,
        num_pictures=num_pictures,
        num_captions=len(gallery.captions),
        fingerprint=_fingerprint(gallery),
        shown=shown,
        sought=sought,
        confused=confused,
        image_NSSC=reduced(image_NRRC),
    )


def from_checkpoint(folder: Path) -> HeldOut:
    """The same from the checkpoint in a stage's folder, by the config that lies beside it.

    Raises:
      UserError: no checkpoint or data, or the config has no evaluator to look through.
    """
    model = loading.load(str(folder))
    context = evaluators.EvalContext.of_model(model)
    selected = chosen(evaluators.build(Settings(model.config.evals, "config.evals"), context))
    if selected is None:
        raise DataError(f"{folder}: its config has no evaluator of type zero_shot or retrieval")
    return look(*selected, model)


def reduced(image_NRRC: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Pictures at no more than `side` pixels a side, uint8 (N, S, S, 3)."""
    if image_NRRC.shape[1] <= side:
        return image_NRRC
    small = [
        Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS)
        for image in image_NRRC
    ]
    return np.stack([np.asarray(image) for image in small])


class _Places:
    """Gives each picture that is kept its place among those that are."""

    def __init__(self) -> None:
        self._places: dict[int, int] = {}

    def __call__(self, picture: int) -> int:
        return self._places.setdefault(int(picture), len(self._places))

    @property
    def pictures(self) -> list[int]:
        return list(self._places)


def _right(gallery: Gallery, axis: int) -> dict[int, set[int]]:
    """The right captions of each picture (axis 0), or the pictures of each caption (1)."""
    right: dict[int, set[int]] = {}
    for pair in gallery.pairs_P2.tolist():
        right.setdefault(pair[axis], set()).add(pair[1 - axis])
    return right


def _probabilities(
    gallery: Gallery, picture_N: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Chunks of (pictures, probabilities (B, M)) of some pictures, at constant memory."""
    size = max(scores.MAX_SCORES // len(gallery.captions), 1)
    for start in range(0, len(picture_N), size):
        picture_B = picture_N[start : start + size]
        logits_BM = gallery.scale * (gallery.image_NE[picture_B] @ gallery.caption_ME.T)
        yield picture_B, scores.softmax(logits_BM)


def _best(score_BM: np.ndarray, count: int) -> np.ndarray:
    """Indices of the best `count` of each row, best first."""
    count = min(count, score_BM.shape[1])
    some = np.sort(np.argpartition(-score_BM, count - 1, axis=1)[:, :count], axis=1)
    order = np.argsort(-np.take_along_axis(score_BM, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)


def _shown(gallery: Gallery, picture_N: np.ndarray, places: _Places) -> tuple[Shown, ...]:
    right, shown = _right(gallery, 0), []
    for picture_B, share_BM in _probabilities(gallery, picture_N):
        for n, share_M, top in zip(picture_B.tolist(), share_BM, _best(share_BM, TOP), strict=True):
            own = max(right[n], key=lambda m: (share_M[m], -m))  # noqa: B023, used at once
            rank = scores.ranks(share_M[None], np.array([own]))[0]
            guesses = tuple(
                Guess(gallery.captions[m], float(share_M[m]), m in right[n]) for m in top.tolist()
            )
            own_caption, share = gallery.captions[own], float(share_M[own])
            at = int(gallery.row_N[n])
            shown.append(Shown(places(n), at, own_caption, int(rank) + 1, share, guesses))
    return tuple(shown)


def _sought(gallery: Gallery, caption_M: np.ndarray, places: _Places) -> tuple[Sought, ...]:
    right, sought = _right(gallery, 1), []
    for caption in caption_M.tolist():
        cosine_N = gallery.image_NE @ gallery.caption_ME[caption]
        own = max(right[caption], key=lambda n: (cosine_N[n], -n))  # noqa: B023, used at once
        rank = scores.ranks(cosine_N[None], np.array([own]))[0]
        hits = tuple(
            Hit(places(n), float(cosine_N[n]), n in right[caption])
            for n in _best(cosine_N[None], HITS)[0].tolist()
        )
        sought.append(Sought(gallery.captions[caption], int(rank) + 1, hits))
    return tuple(sought)


def _confused(gallery: Gallery, places: _Places) -> tuple[Confused, ...]:
    """The pairs of captions that take most of each other's probability, worst first.

    In a pair the caption that gives more comes first. A picture counts for its first caption.
    Only its most probable wrong captions are looked at, so memory does not grow with the square
    of the captions.
    """
    first_N = _first_captions(gallery)
    right = _right(gallery, 0)
    count_M = np.bincount(first_N, minlength=len(gallery.captions))
    share: dict[tuple[int, int], float] = {}
    example: dict[tuple[int, int], tuple[float, int]] = {}
    for picture_B, share_BM in _probabilities(gallery, np.arange(len(first_N))):
        for n, share_M, top in zip(picture_B.tolist(), share_BM, _best(share_BM, TOP), strict=True):
            own = int(first_N[n])
            for other in top.tolist():
                if other in right[n] or share_M[other] < _WORTH:
                    continue
                pair, value = (own, other), float(share_M[other])
                share[pair] = share.get(pair, 0.0) + value / float(count_M[own])
                example[pair] = max(example.get(pair, (0.0, n)), (value, n))
    pairs = {max((a, b), (b, a), key=lambda pair: (share.get(pair, 0.0), pair)) for a, b in share}
    both = {(a, b): share[a, b] + share.get((b, a), 0.0) for a, b in pairs}
    worst = sorted(both, key=lambda pair: (-both[pair], pair))[:PAIRS]
    any_of = dict(zip(first_N[::-1].tolist(), range(len(first_N) - 1, -1, -1), strict=True))

    def place(own: int, other: int) -> int | None:
        """Of the picture that shows the confusion best, or of any."""
        n = example[own, other][1] if (own, other) in example else any_of.get(own)
        return None if n is None else places(n)

    return tuple(
        Confused(
            gallery.captions[a],
            gallery.captions[b],
            share[a, b],
            share.get((b, a), 0.0),
            place(a, b),
            place(b, a),
        )
        for a, b in worst
    )


def _first_captions(gallery: Gallery) -> np.ndarray:
    """The first right caption of each picture, int (N,)."""
    row_N, first_N = np.unique(gallery.pairs_P2[:, 0], return_index=True)
    assert len(row_N) == len(gallery.image_NE)  # every picture has a caption
    return gallery.pairs_P2[first_N, 1]


def _fingerprint(gallery: Gallery) -> str:
    """A number for all captions and for what is right for every picture."""
    pairs_P2 = gallery.pairs_P2.tolist()
    content = json.dumps([gallery.captions, gallery.row_N.tolist(), pairs_P2]).encode()
    return hashlib.sha256(content).hexdigest()[:12]

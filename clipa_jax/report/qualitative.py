"""Held-out pictures and captions of a model: examples, and confused captions.

The examples are drawn at random, the same for every model on the same data. N pictures, M
captions, E embedding, B rows of a chunk, S pixels per side as kept.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from PIL import Image

from clipa_jax import evaluators, loading
from clipa_jax.config.settings import Settings
from clipa_jax.errors import DataError
from clipa_jax.evaluation.held_out import Example, HeldOut
from clipa_jax.evaluators import HasParams, Retrieval, ZeroShot, scores
from clipa_jax.evaluators.dataset import Gallery
from clipa_jax.runtime.files import Path

# The numbers of examples: pictures, captions, pictures of a caption, pairs, captions of a picture.
PICTURES, CAPTIONS, HITS, PAIRS, TOP = 24, 12, 6, 12, 5
SIDE = 96  # pixels; larger pictures are reduced
SEED = 0
_LEAST = 0.01  # the smallest probability that counts as confusion
Kept = dict[int, int]  # pictures by their number, with their index among the kept ones


def choose(built: Mapping[str, Any]) -> tuple[str, ZeroShot | Retrieval] | None:
    """The evaluator that provides the examples, with its name: zero-shot, else retrieval."""
    for kind in (ZeroShot, Retrieval):
        for name, evaluator in built.items():
            if isinstance(evaluator, kind):
                return name, evaluator
    return None


def make(name: str, evaluator: ZeroShot | Retrieval, state: HasParams) -> HeldOut:
    """The examples for the parameters of `state` from the evaluator `name` of the config.

    Uses the embeddings of the last evaluation, and decodes only the pictures that are kept. Raises
    `DataError` on several processes, as a picture's pixels stay on the process that read it.
    """
    if jax.process_count() > 1:
        raise DataError("held-out pictures need a single process")
    gallery = evaluator.gallery(state)
    rng = np.random.default_rng(SEED)
    num_pictures = len(gallery.image_NE)
    picture_N = np.sort(rng.permutation(num_pictures)[:PICTURES])
    answered_M = np.unique(gallery.pairs_P2[:, 1])  # captions that have a picture
    caption_M = np.sort(rng.permutation(answered_M)[:CAPTIONS])
    kept: Kept = {}
    shown = list(_shown(gallery, picture_N, kept))
    sought = list(_sought(gallery, caption_M, kept))
    confused = list(_confused(gallery, kept))
    image_NRRC = gallery.data.pictures(gallery.position_N[list(kept)])
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
    """The examples for the checkpoint in a stage's folder, with the config beside it."""
    model = loading.load(str(folder))
    context = evaluators.EvalContext.of_model(model, model.config.root)
    chosen = choose(evaluators.build(Settings(model.config.evals, "config.evals"), context))
    if chosen is None:
        raise DataError(f"{folder}: its config has no evaluator of type zero_shot or retrieval")
    return make(*chosen, model)


def reduced(image_NRRC: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Pictures with at most `side` pixels per side, uint8 (N, S, S, 3)."""
    if image_NRRC.shape[1] <= side:
        return image_NRRC
    images = map(Image.fromarray, image_NRRC)
    small = [image.resize((side, side), Image.Resampling.LANCZOS) for image in images]
    return np.stack([np.asarray(image) for image in small])


def _keep(kept: Kept, picture: int) -> int:
    """The index of a picture among the kept ones."""
    return kept.setdefault(picture, len(kept))


def _right(gallery: Gallery, axis: int) -> dict[int, set[int]]:
    """The right captions of each picture (axis 0), or the pictures of each caption (1)."""
    right: dict[int, set[int]] = {}
    for pair in gallery.pairs_P2.tolist():
        right.setdefault(pair[axis], set()).add(pair[1 - axis])
    return right


def _best_right(score_X: np.ndarray, right: set[int]) -> tuple[int, int]:
    """(the right item with the highest score, its rank from 1)."""
    own = max(right, key=lambda x: (score_X[x], -x))
    return own, int(scores.ranks(score_X[None], np.array([own]))[0]) + 1


def _best(score_BM: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` highest scores of each row, highest first."""
    count = min(count, score_BM.shape[1])
    some = np.sort(np.argpartition(-score_BM, count - 1, axis=1)[:, :count], axis=1)
    order = np.argsort(-np.take_along_axis(score_BM, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)


def _probable(
    gallery: Gallery, picture_N: np.ndarray
) -> Iterator[tuple[int, np.ndarray, list[int]]]:
    """(picture, probabilities (M,), its most probable captions), at constant memory."""
    size = max(scores.MAX_SCORES // len(gallery.captions), 1)
    for start in range(0, len(picture_N), size):
        picture_B = picture_N[start : start + size]
        logits_BM = gallery.scale * (gallery.image_NE[picture_B] @ gallery.caption_ME.T)
        share_BM = scores.softmax(logits_BM)
        yield from zip(picture_B.tolist(), share_BM, _best(share_BM, TOP).tolist(), strict=True)


def _shown(gallery: Gallery, picture_N: np.ndarray, kept: Kept) -> Iterator[Example]:
    right = _right(gallery, 0)
    for n, share_M, top in _probable(gallery, picture_N):
        own, place = _best_right(share_M, right[n])
        yield {
            "picture": _keep(kept, n),
            "row": int(gallery.row_N[n]),
            "right": gallery.captions[own],
            "place": place,
            "share": float(share_M[own]),
            "top": [
                {"caption": gallery.captions[m], "share": float(share_M[m]), "right": m in right[n]}
                for m in top
            ],
        }


def _sought(gallery: Gallery, caption_M: np.ndarray, kept: Kept) -> Iterator[Example]:
    right = _right(gallery, 1)
    for caption in caption_M.tolist():
        cosine_N = gallery.image_NE @ gallery.caption_ME[caption]
        _, place = _best_right(cosine_N, right[caption])
        hits = [
            {"picture": _keep(kept, n), "cosine": float(cosine_N[n]), "right": n in right[caption]}
            for n in _best(cosine_N[None], HITS)[0].tolist()
        ]
        yield {"caption": gallery.captions[caption], "place": place, "top": hits}


def _confused(gallery: Gallery, kept: Kept) -> Iterator[Example]:
    """The pairs of captions that take most of each other's probability, worst first.

    In a pair the caption that loses more comes first. A picture counts for its first caption, and
    only its most probable captions count, so that memory does not grow with the square of M.
    """
    _, first_P = np.unique(gallery.pairs_P2[:, 0], return_index=True)
    first_N = gallery.pairs_P2[first_P, 1]
    right, count_M = _right(gallery, 0), np.bincount(first_N, minlength=len(gallery.captions))
    share: dict[tuple[int, int], float] = {}
    example: dict[tuple[int, int], tuple[float, int]] = {}
    for n, share_M, top in _probable(gallery, np.arange(len(first_N))):
        own = int(first_N[n])
        for other in (m for m in top if m not in right[n] and share_M[m] >= _LEAST):
            pair, value = (own, other), float(share_M[other])
            share[pair] = share.get(pair, 0.0) + value / float(count_M[own])
            example[pair] = max(example.get(pair, (0.0, n)), (value, n))
    pairs = {max((a, b), (b, a), key=lambda pair: (share.get(pair, 0.0), pair)) for a, b in share}
    both = {(a, b): share[a, b] + share.get((b, a), 0.0) for a, b in pairs}
    any_of = dict(zip(first_N[::-1].tolist(), range(len(first_N) - 1, -1, -1), strict=True))

    def picture(own: int, other: int) -> int | None:
        """The picture of `own` that shows the confusion best, or any."""
        n = example[own, other][1] if (own, other) in example else any_of.get(own)
        return None if n is None else _keep(kept, n)

    for a, b in sorted(both, key=lambda pair: (-both[pair], pair))[:PAIRS]:
        yield {
            "first": gallery.captions[a],
            "second": gallery.captions[b],
            "first_as_second": share[a, b],
            "second_as_first": share.get((b, a), 0.0),
            "first_picture": picture(a, b),
            "second_picture": picture(b, a),
        }


def _fingerprint(gallery: Gallery) -> str:
    """A short name for all captions and the right ones of every picture."""
    pairs_P2 = gallery.pairs_P2.tolist()
    content = json.dumps([gallery.captions, gallery.row_N.tolist(), pairs_P2]).encode()
    return hashlib.sha256(content).hexdigest()[:12]

"""Held-out pictures and captions of a stage, as stored in its folder.

W/<stage>/held_out.json    captions, scores and confusions
W/<stage>/held_out.npz     their pictures: one array `image`, uint8 (N, S, S, 3)

Neither file holds pickled objects.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clipa_jax.errors import DataError
from clipa_jax.runtime import files
from clipa_jax.training import workdir

FORMAT = 1


@dataclass(frozen=True)
class Guess:
    """A caption and its share of the probability over all captions, in [0, 1]."""

    caption: str
    share: float
    right: bool


@dataclass(frozen=True)
class Shown:
    """A picture and the captions that the model finds most probable.

    Attributes:
      picture: index among the pictures of the file.
      row: index in the split; the same row is the same picture for every model.
      right: its own caption.
      place: rank of its own caption, 1 for the first.
      share: probability of its own caption.
      top: the most probable captions, best first.
    """

    picture: int
    row: int
    right: str
    place: int
    share: float
    top: tuple[Guess, ...]


@dataclass(frozen=True)
class Hit:
    """A picture and its cosine with a caption, in [-1, 1]."""

    picture: int
    cosine: float
    right: bool


@dataclass(frozen=True)
class Sought:
    """A caption and the pictures nearest to it; `place` is the rank of the first right one."""

    caption: str
    place: int
    top: tuple[Hit, ...]


@dataclass(frozen=True)
class Confused:
    """Two captions that a model confuses.

    Attributes:
      first, second: the captions.
      first_as_second: mean probability of the second for pictures of the first.
      second_as_first: the reverse.
      first_picture, second_picture: an example of each; None where the split has none.
    """

    first: str
    second: str
    first_as_second: float
    second_as_first: float
    first_picture: int | None
    second_picture: int | None


@dataclass(frozen=True)
class HeldOut:
    """The content of both files.

    Attributes:
      evaluator: its name in the config's `evals`.
      source, split: of the pictures.
      num_pictures, num_captions: of the split.
      fingerprint: of all captions and of the right one of every picture; two models are
        comparable only where it is the same.
      shown, sought, confused: examples.
      image_NSSC: uint8 (N, S, S, 3), the pictures that the examples index.
    """

    evaluator: str
    source: str
    split: str
    num_pictures: int
    num_captions: int
    fingerprint: str
    shown: tuple[Shown, ...]
    sought: tuple[Sought, ...]
    confused: tuple[Confused, ...]
    image_NSSC: np.ndarray


def save(held: HeldOut, folder: Path) -> None:
    """Writes both files of a stage, the JSON last, so that it never lacks its pictures."""
    texts = asdict(held)
    del texts["image_NSSC"]
    pictures = io.BytesIO()
    np.savez_compressed(pictures, image=held.image_NSSC)
    files.write_bytes(folder / workdir.HELD_OUT_PICTURES, pictures.getvalue())
    files.write_json(folder / workdir.HELD_OUT, {"format": FORMAT, **texts})


def load(folder: Path) -> HeldOut | None:
    """Reads what `save` wrote; None where a stage has none.

    Raises:
      DataError: the files are not what `save` writes.
    """
    if not (folder / workdir.HELD_OUT).exists():
        return None
    try:
        texts = files.read_json(folder / workdir.HELD_OUT)
        if texts.pop("format") != FORMAT:
            raise ValueError(f"not of format {FORMAT}")
        with np.load(folder / workdir.HELD_OUT_PICTURES, allow_pickle=False) as arrays:
            image_NSSC = arrays["image"]
        return _check(
            HeldOut(
                shown=_rows(texts.pop("shown"), Shown, top=Guess),
                sought=_rows(texts.pop("sought"), Sought, top=Hit),
                confused=_rows(texts.pop("confused"), Confused),
                image_NSSC=image_NSSC,
                **texts,
            )
        )
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{folder / workdir.HELD_OUT} and {workdir.HELD_OUT_PICTURES} beside it cannot be "
            f"read: {error!r}"
        ) from None


def _rows(
    rows: Sequence[Mapping[str, Any]], kind: Callable[..., Any], **inner: Callable[..., Any]
) -> tuple[Any, ...]:
    """Mappings as dataclasses, those in their lists too."""
    examples = []
    for row in rows:
        lists = {key: tuple(make(**entry) for entry in row[key]) for key, make in inner.items()}
        examples.append(kind(**{**row, **lists}))
    return tuple(examples)


def _check(held: HeldOut) -> HeldOut:
    image = held.image_NSSC
    if image.dtype != np.uint8 or image.ndim != 4 or image.shape[3] != 3:
        raise ValueError(f"pictures are {image.dtype} {image.shape}, not uint8 (N, S, S, 3)")
    pairs = [i for pair in held.confused for i in (pair.first_picture, pair.second_picture)]
    used = [shown.picture for shown in held.shown] + [i for i in pairs if i is not None]
    used += [hit.picture for sought in held.sought for hit in sought.top]
    if used and not 0 <= min(used) <= max(used) < len(image):
        raise ValueError(f"there are {len(image)} pictures, but texts about number {max(used)}")
    return held

"""Held-out pictures and captions of a stage, as stored in its folder.

W/<stage>/held_out.json    captions, scores and confusions
W/<stage>/held_out.npz     their pictures: one array `image`, uint8 (N, S, S, 3)

Neither file holds pickled objects.
"""

import io
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from clipa_jax.errors import DataError
from clipa_jax.runtime import files
from clipa_jax.runtime.files import Path
from clipa_jax.training import workdir

FORMAT = 1
Example = dict[str, Any]
# The keys of an example by the list that holds it, and those of the entries of its `top`.
KEYS = {
    "shown": {"picture", "row", "right", "place", "share", "top"},
    "sought": {"caption", "place", "top"},
    "confused": {"first", "second", "first_as_second", "second_as_first"}
    | {"first_picture", "second_picture"},
}
TOP_KEYS = {"shown": {"caption", "share", "right"}, "sought": {"picture", "cosine", "right"}}


@dataclass(frozen=True)
class HeldOut:
    """The content of both files: examples, and the pictures that they index by `picture`.

    Attributes:
      fingerprint: of all captions and of the right one of every picture; two models are
        comparable only where it is the same.
      shown: pictures: `row` in the split, its `right` caption, the `place` (from 1) and `share` of
        probability of that one, and the `top` captions, each with its share.
      sought: captions: the `place` of the first right picture, and the `top` pictures by cosine.
      confused: pairs of captions: the mean probability of the second for pictures of the first,
        the reverse, and a picture of each, None where the split has none.
    """

    evaluator: str
    source: str
    split: str
    num_pictures: int
    num_captions: int
    fingerprint: str
    shown: list[Example]
    sought: list[Example]
    confused: list[Example]
    image_NSSC: np.ndarray


def save(held: HeldOut, folder: Path) -> None:
    """Writes both files of a stage, the JSON last, so that it never lacks its pictures."""
    texts = asdict(held)
    pictures = io.BytesIO()
    np.savez_compressed(pictures, image=texts.pop("image_NSSC"))
    files.write_bytes(folder / workdir.HELD_OUT_PICTURES, pictures.getvalue())
    files.write_json(folder / workdir.HELD_OUT, {"format": FORMAT, **texts})


def load(folder: Path) -> HeldOut | None:
    """Reads what `save` wrote; None where a stage has none, `DataError` if it is damaged."""
    if not (folder / workdir.HELD_OUT).exists():
        return None
    try:
        texts = files.read_json(folder / workdir.HELD_OUT)
        if texts.pop("format") != FORMAT:
            raise ValueError(f"not of format {FORMAT}")
        with files.open(folder / workdir.HELD_OUT_PICTURES) as pictures:
            image_NSSC = np.load(pictures, allow_pickle=False)["image"]
        held = HeldOut(image_NSSC=image_NSSC, **texts)
        _check(held)
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{folder / workdir.HELD_OUT} and {workdir.HELD_OUT_PICTURES} beside it cannot be "
            f"read: {error!r}"
        ) from None
    return held


def _check(held: HeldOut) -> None:
    image = held.image_NSSC
    if image.dtype != np.uint8 or image.ndim != 4 or image.shape[3] != 3:
        raise ValueError(f"pictures are {image.dtype} {image.shape}, not uint8 (N, S, S, 3)")
    for name, keys in KEYS.items():
        for example in getattr(held, name):
            entries = example["top"] if name in TOP_KEYS else []
            if set(example) != keys or any(set(entry) != TOP_KEYS[name] for entry in entries):
                raise ValueError(f"{name} has an example with other keys: {sorted(example)}")
            numbers = [part[key] for part in (example, *entries) for key in part if "pict" in key]
            if any(n is not None and not 0 <= n < len(image) for n in numbers):
                raise ValueError(f"there are {len(image)} pictures, but {name} shows {numbers}")

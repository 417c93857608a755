"""Sizes from headers alone."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from clipa_jax.preprocess import header

HEIGHT, WIDTH = 37, 300


def encoded(kind: str = "JPEG", mode: str = "RGB", **options) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, kind, **options)
    return out.getvalue()


THUMBNAIL = b"Exif\0\0" + encoded(mode="L")  # a JPEG inside a JPEG, before its own frame
NEAR = {
    "plain": encoded(),
    "grey": encoded(mode="L"),
    "CMYK": encoded(mode="CMYK"),
    "progressive": encoded(progressive=True),
    "without subsampling": encoded(subsampling=0),
    "with a short comment": encoded(comment=b"hello"),
    "cut behind its frame header": encoded()[:200],
}
FAR = {
    "behind a thumbnail": encoded(exif=THUMBNAIL),
    "behind a profile": encoded(icc_profile=b"z" * 3_000),
    "PNG": encoded("PNG"),
    "no bytes": b"",
    "one marker": b"\xff\xd8",
    "cut in its frame header's marker": b"\xff\xd8\xff",
    "cut before its frame header": encoded()[:150],
    "text": b"\xff\xd8 is how a JPEG begins" * 20,
}


def sizes(pictures: list[bytes]) -> list[list[int]]:
    return header.jpeg_sizes(tf.constant(pictures)).numpy().tolist()


def test_sizes_of_jpegs_together():
    found = dict(zip((*NEAR, *FAR), sizes([*NEAR.values(), *FAR.values()]), strict=True))
    assert found == {name: [HEIGHT, WIDTH] if name in NEAR else [0, 0] for name in found}


WHOLE = [name for name in NEAR if "cut" not in name]  # libjpeg reads on, up to the pixels


@pytest.mark.parametrize("name", [*WHOLE, "behind a thumbnail", "behind a profile", "PNG"])
def test_sizes_one_by_one_agree(name):
    picture = tf.constant((NEAR | FAR)[name])
    assert header.size(picture).numpy().tolist() == [HEIGHT, WIDTH]


def test_a_hostile_length_ends_the_search():
    """Segments of length 0 that lead nowhere: the search ends, and finds nothing."""
    assert sizes([b"\xff\xd8" + b"\xff\xe0\x00\x00" * 500]) == [[0, 0]]

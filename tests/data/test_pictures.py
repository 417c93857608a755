"""Pictures of every kind are decoded as Pillow does, or skipped by reason (docs/data.md)."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from clipa_jax.data import pipeline
from clipa_jax.preprocess import decode, header, registry
from tests.data.conftest import settings
from tests.helpers.odd_data import counted, write_one_by_one
from tests.helpers.pictures import BAD, GOOD, PHOTO, encoded


def on_white(picture: Image.Image) -> np.ndarray:
    layer = picture.convert("RGBA")
    white = Image.new("RGBA", layer.size, (255,) * 4)
    return np.asarray(Image.alpha_composite(white, layer).convert("RGB"))


PHOTO_OF_16 = np.repeat(PHOTO[..., :1], 3, -1)


@pytest.mark.parametrize("name", GOOD)
def test_decoded_as_pillow_does(name):
    with Image.open(io.BytesIO(GOOD[name])) as picture:
        picture.seek(0)
        expected = PHOTO_OF_16 if name == "16-bit PNG" else on_white(picture)
    found = registry.build("decode")({"image": tf.constant(GOOD[name])})["image"].numpy()
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < (2 if "JPEG" in name else 1)
    assert tuple(header.size(tf.constant(GOOD[name])).numpy()) == expected.shape[:2]


def test_every_picture_at_once(tmp_path):
    """Good and bad ones side by side, through the fused op that training uses."""
    images = [*GOOD.values(), *(image for image, _ in BAD.values())]
    reasons = [""] * len(GOOD) + [reason for _, reason in BAD.values()]
    done = counted(write_one_by_one(tmp_path, images), reasons)
    assert done["image"].shape == (len(images), 8, 8, 3)


def test_the_limit_of_pixels(tmp_path):
    spec = write_one_by_one(tmp_path, [encoded("PNG"), encoded("JPEG"), encoded("PNG", PHOTO[1:])])
    counted(spec, ["too_large", "too_large", ""], max_pixels=40 * 60 - 1)
    config = settings(spec, max_pixels=40 * 60 - 1, batch_size=3, lanes=1, max_skip_percent=99.0)
    data = pipeline.train_data(config, seed=0)
    next(data.start())
    assert data.skipped() == {"too_large": 2}


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_transparent_color_of_a_png_is_white(mode):
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    image = Image.fromarray(pixels).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=image.getpixel((1, 2)))
    shown = decode.any_format(tf.constant(buffer.getvalue())).numpy()
    expected = np.array(image.convert("RGB"))
    expected[2, 1] = 255
    np.testing.assert_array_equal(shown, expected)

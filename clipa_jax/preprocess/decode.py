"""The op that decodes pictures, and what it is made of.

H, W height and width, C = 3 channels (red, green, blue).
"""

import io

import numpy as np
import tensorflow as tf
from PIL import WebPImagePlugin

from clipa_jax.preprocess.registry import Function, Sample, op

WHITE = 255
MAX_PIXELS = 1 << 26  # of a picture: 8192 x 8192, 192 MiB when decoded
# A branch that is rarely taken, as a call of its own: TensorFlow goes through the ops of a branch
# in line even where it is not taken, which takes longer than the ops of a JPEG's header.
rare = tf.function(autograph=False, experimental_attributes={"_noinline": True})
_HEADER = 30  # bytes that hold the size, in every format but JPEG


@op("decode", entry="image")
def decode() -> Function:
    """Encoded bytes () -> uint8 (H, W, C).

    JPEG, PNG, GIF (its first frame), WebP and BMP; grey, CMYK and 16-bit pictures become
    RGB, transparent ones are laid on white.
    """

    def apply(sample: Sample) -> Sample:
        encoded = sample["image"]
        return {
            **sample,
            "image": tf.cond(
                tf.io.is_jpeg(encoded),
                lambda: tf.io.decode_jpeg(encoded, channels=3),
                lambda: any_format(encoded),
            ),
        }

    return apply


@rare
def any_format(encoded: tf.Tensor) -> tf.Tensor:
    """Bytes () of any format -> uint8 (H, W, C)."""
    image = tf.cond(
        _is_animated_webp(encoded),
        lambda: tf.numpy_function(_first_frame, [encoded], tf.uint8, stateful=False),
        lambda: tf.io.decode_image(encoded, channels=0, expand_animations=False),
    )
    image = tf.ensure_shape(image, (None, None, None))

    def on_white() -> tf.Tensor:
        alpha = tf.cast(image[..., -1:], tf.float32) / 255
        colour = tf.cast(image[..., :-1], tf.float32)
        return _rounded(colour * alpha + WHITE * (1 - alpha)) + tf.zeros([3], tf.uint8)

    def opaque() -> tf.Tensor:
        return image + tf.zeros([3], tf.uint8)  # one channel becomes three

    image = tf.cond(tf.shape(image)[2] % 2 == 0, on_white, opaque)
    return tf.ensure_shape(image, (None, None, 3))


def _is_animated_webp(encoded: tf.Tensor) -> tf.Tensor:
    header = tf.strings.join([tf.strings.substr(encoded, 0, _HEADER), b"\0" * _HEADER])
    flags = tf.io.decode_raw(tf.strings.substr(header, 20, 1), tf.uint8)[0]
    is_extended = tf.strings.substr(header, 8, 8) == b"WEBPVP8X"
    return is_extended & (flags & tf.constant(2, tf.uint8) != 0)


def _first_frame(encoded: bytes | np.ndarray) -> np.ndarray:
    """The first frame of an animated WebP, uint8 (H, W, 4).

    TensorFlow 2.21 writes beyond its memory where it decodes one, which ends the process.
    """
    data = encoded if isinstance(encoded, bytes) else encoded.item()
    with WebPImagePlugin.WebPImageFile(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGBA"))


def size(encoded: tf.Tensor) -> tf.Tensor:
    """Height and width that a picture's header tells, int64 (2,), without decoding it.

    Bytes of no known format give 0; a JPEG whose header is damaged is an error.
    """
    return tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.cast(tf.io.extract_jpeg_shape(encoded)[:2], tf.int64),
        lambda: _size_of_others(encoded),
    )


@rare
def _size_of_others(encoded: tf.Tensor) -> tf.Tensor:
    """Likewise, of PNG, GIF, WebP and BMP."""
    padded = tf.strings.join([tf.strings.substr(encoded, 0, _HEADER), b"\0" * _HEADER])
    header = tf.cast(tf.io.decode_raw(tf.strings.substr(padded, 0, _HEADER), tf.uint8), tf.int64)

    def number(at: int, size: int, *, big: bool = False) -> tf.Tensor:
        places = np.arange(size)[::-1] if big else np.arange(size)
        return tf.reduce_sum(header[at : at + size] * tf.constant(256**places, tf.int64))

    def sides(width: tf.Tensor, height: tf.Tensor) -> tf.Tensor:
        return tf.minimum(tf.stack([height, width]), 2**31 - 1)

    def starts(text: bytes, at: int = 0) -> tf.Tensor:
        return tf.reduce_all(header[at : at + len(text)] == list(text))

    webp = starts(b"RIFF") & starts(b"WEBP", 8)
    lossless, rows = number(21, 4), number(22, 4)
    rows = tf.minimum(rows, 2**32 - rows)  # of a BMP, negative where it is upside down
    sizes = (
        (starts(b"\x89PNG"), sides(number(16, 4, big=True), number(20, 4, big=True))),
        (starts(b"GIF8"), sides(number(6, 2), number(8, 2))),
        (webp & starts(b"VP8X", 12), sides(number(24, 3) + 1, number(27, 3) + 1)),
        (webp & starts(b"VP8L", 12), sides(lossless % 2**14 + 1, lossless // 2**14 % 2**14 + 1)),
        (webp & starts(b"VP8 ", 12), sides(number(26, 2) % 2**14, number(28, 2) % 2**14)),
        (starts(b"BM"), sides(number(18, 4), rows)),
    )
    found = tf.zeros([2], tf.int64)
    for is_it, size in sizes:
        found = tf.where(is_it, size, found)
    return found


def _rounded(values: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.clip_by_value(values + 0.5, 0.0, 255.0), tf.uint8)

"""The op that decodes pictures, and what it is made of.

H, W height and width, C = 3 channels (red, green, blue). Of headers: N formats, H bytes.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from PIL import WebPImagePlugin

from clipa_jax.preprocess.registry import Function, Sample, op

WHITE = 255
MAX_PIXELS = 1 << 26  # of a picture: 8192 x 8192, 192 MiB when decoded
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


def pixels(encoded: tf.Tensor) -> tf.Tensor:
    """The number of pixels that a picture's header tells, int64 (), without decoding it.

    Bytes of no known format give 0; a JPEG whose header is damaged is an error.
    """

    def jpeg() -> tf.Tensor:
        shape_3 = tf.cast(tf.io.extract_jpeg_shape(encoded), tf.int64)
        return shape_3[0] * shape_3[1]

    return tf.cond(tf.io.is_jpeg(encoded), jpeg, lambda: _pixels_of_others(encoded))


def _pixels_of_others(encoded: tf.Tensor) -> tf.Tensor:
    """Likewise, for the N formats of `_FORMATS`."""
    padded = tf.strings.join([tf.strings.substr(encoded, 0, _HEADER), b"\0" * _HEADER])
    header_H = tf.io.decode_raw(tf.strings.substr(padded, 0, _HEADER), tf.uint8)
    is_N = tf.reduce_all((header_H == _MARKS_NH) | (_MARKS_NH == 0), 1)
    raw_2N = tf.linalg.matvec(tf.constant(_PLACES_2NH), tf.cast(header_H, tf.int64))
    rows_N = tf.minimum(raw_2N[1], 2**32 - raw_2N[1])  # negative where a BMP is upside down
    raw_2N = tf.stack([raw_2N[0], rows_N])
    size_2N = raw_2N // _DIVISORS_2N % _LIMITS_2N + _MORE_2N
    return tf.reduce_sum(tf.where(is_N, size_2N[0] * size_2N[1], 0))


@dataclass(frozen=True)
class _Format:
    """Where the header of a format tells the size, as whole numbers of some bytes.

    Attributes:
      marks: what stands at which byte.
      width: the bytes of the number for the width, the least significant first.
      height: likewise.
      divisor: of the height's number.
      limit: numbers are taken modulo this.
      more: added to them.
    """

    marks: dict[int, bytes]
    width: Sequence[int]
    height: Sequence[int]
    divisor: int = 1
    limit: int = 2**31
    more: int = 0


_RIFF = {0: b"RIFF", 8: b"WEBP"}
_FORMATS = (
    _Format({0: b"\x89PNG"}, range(19, 15, -1), range(23, 19, -1)),
    _Format({0: b"GIF8"}, (6, 7), (8, 9)),
    _Format({**_RIFF, 12: b"VP8X"}, (24, 25, 26), (27, 28, 29), more=1),
    _Format({**_RIFF, 12: b"VP8L"}, range(21, 25), range(21, 25), 2**14, 2**14, more=1),
    _Format({**_RIFF, 12: b"VP8 "}, (26, 27), (28, 29), limit=2**14),
    _Format({0: b"BM"}, range(18, 22), range(22, 26)),
)


def _marks() -> np.ndarray:
    marks_NH = np.zeros((len(_FORMATS), _HEADER), np.uint8)  # 0: any byte
    for row, kind in zip(marks_NH, _FORMATS, strict=True):
        for at, mark in kind.marks.items():
            row[at : at + len(mark)] = list(mark)
    return marks_NH


def _places() -> np.ndarray:
    places_2NH = np.zeros((2, len(_FORMATS), _HEADER), np.int64)
    for n, kind in enumerate(_FORMATS):
        for side, places in enumerate((kind.width, kind.height)):
            places_2NH[side, n, list(places)] = 256 ** np.arange(len(places))
    return places_2NH


_MARKS_NH, _PLACES_2NH = _marks(), _places()
_DIVISORS_2N = np.array([[1] * len(_FORMATS), [kind.divisor for kind in _FORMATS]], np.int64)
_LIMITS_2N = np.array([[kind.limit for kind in _FORMATS]], np.int64)
_MORE_2N = np.array([[kind.more for kind in _FORMATS]], np.int64)


def _rounded(values: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.clip_by_value(values + 0.5, 0.0, 255.0), tf.uint8)

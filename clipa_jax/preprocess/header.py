"""The size of a picture by its header, without decoding it.

n encoded pictures, X bytes of each.
"""

import numpy as np
import tensorflow as tf

from clipa_jax.preprocess.decode import rare
from clipa_jax.preprocess.registry import Sample

_HEADER = 30  # bytes that hold the size, in every format but JPEG
_BEGINNING = 256  # bytes of a JPEG that `jpeg_sizes` looks at
_START, _MARKER, _FRAME, _LAST_FRAME = 0xFFD8, 0xFF01, 0xFFC0, 0xFFC2


def added(sample: Sample) -> Sample:
    """The sample with `_size` and `_jpeg`; a batch, where they are there already."""
    if "_size" in sample:
        return sample
    encoded = sample["image"]
    return {**sample, "_size": size(encoded), "_jpeg": tf.io.is_jpeg(encoded)}


def size(encoded: tf.Tensor) -> tf.Tensor:
    """Height and width of an encoded picture () by its header, int64 (2,).

    Bytes of no known format give 0; a JPEG whose header is damaged is an error.
    """
    return tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.cast(tf.io.extract_jpeg_shape(encoded)[:2], tf.int64),
        lambda: tf.reshape(other_sizes(encoded[None]), [2]),
    )


def jpeg_sizes(encoded_n: tf.Tensor) -> tf.Tensor:
    """Heights and widths of JPEGs, int64 (n, 2), in a few ops for all of them.

    0 where the frame header does not begin among the first bytes, as behind profiles and
    thumbnails, and for other formats.
    """
    begin_n = tf.strings.substr(encoded_n, 0, _BEGINNING)
    padded = _BEGINNING + 9  # such that a frame header fits after the bytes that are examined
    byte_nX = tf.io.decode_raw(begin_n, tf.uint8, fixed_length=padded)

    def words(at_n: tf.Tensor, places: list[int]) -> list[tf.Tensor]:
        """Numbers of two bytes, at places counted from `at_n`."""
        both = [at + byte for at in places for byte in (0, 1)]
        pair_nX = tf.gather(byte_nX, at_n[:, None] + both, batch_dims=1)
        number_nX2 = tf.reshape(tf.cast(pair_nX, tf.int32), (-1, len(places), 2))
        return tf.unstack(tf.reduce_sum(number_nX2 * [256, 1], -1), axis=1)

    def segment(at_n: tf.Tensor, size_n2: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # A marker, the length of what follows; of a frame the precision, in a byte, and its size.
        marker, length, height, width = words(at_n, [0, 2, 5, 7])
        is_frame = (marker >= _FRAME) & (marker <= _LAST_FRAME)
        size_n2 = tf.where(is_frame[:, None], tf.stack([height, width], 1), size_n2)
        after_n = tf.where((marker >= _MARKER) & ~is_frame, at_n + 2 + length, _BEGINNING)
        return tf.minimum(after_n, _BEGINNING), size_n2

    zeros_n = tf.zeros_like(tf.strings.length(encoded_n))
    first_n = tf.where(words(zeros_n, [0])[0] == _START, 2, _BEGINNING)
    _, size_n2 = tf.while_loop(
        lambda at_n, _: tf.reduce_any(at_n < _BEGINNING),
        segment,
        (first_n, tf.stack([zeros_n, zeros_n], 1)),
        parallel_iterations=1,
    )
    return tf.cast(size_n2, tf.int64)


@rare
def other_sizes(encoded_n: tf.Tensor) -> tf.Tensor:
    """Likewise, of PNG, GIF, WebP and BMP."""
    begin_n = tf.strings.substr(encoded_n, 0, _HEADER)
    byte_nX = tf.cast(tf.io.decode_raw(begin_n, tf.uint8, fixed_length=_HEADER), tf.int64)

    def number(at: int, size: int, *, big: bool = False) -> tf.Tensor:
        weight_X = np.zeros(_HEADER, np.int64)
        weight_X[at : at + size] = 256 ** (np.arange(size)[::-1] if big else np.arange(size))
        return tf.reduce_sum(byte_nX * weight_X, 1)

    def sides(width_n: tf.Tensor, height_n: tf.Tensor) -> tf.Tensor:
        return tf.minimum(tf.stack([height_n, width_n], 1), 2**31 - 1)

    def starts(text: bytes, at: int = 0) -> tf.Tensor:
        return tf.reduce_all(byte_nX[:, at : at + len(text)] == list(text), 1)

    webp = starts(b"RIFF") & starts(b"WEBP", 8)
    lossless, rows = number(21, 4), number(22, 4)
    rows = tf.minimum(rows, 2**32 - rows)  # of a BMP, negative if its first row is the top one
    old = number(14, 4) == 12  # a BMP whose header has sizes of two bytes
    sizes = (
        (starts(b"\x89PNG"), sides(number(16, 4, big=True), number(20, 4, big=True))),
        (starts(b"GIF8"), sides(number(6, 2), number(8, 2))),
        (webp & starts(b"VP8X", 12), sides(number(24, 3) + 1, number(27, 3) + 1)),
        (webp & starts(b"VP8L", 12), sides(lossless % 2**14 + 1, lossless // 2**14 % 2**14 + 1)),
        (webp & starts(b"VP8 ", 12), sides(number(26, 2) % 2**14, number(28, 2) % 2**14)),
        (starts(b"BM"), sides(number(18, 4), rows)),
        (starts(b"BM") & old, sides(number(18, 2), number(20, 2))),
    )
    known_n2 = tf.zeros_like(byte_nX[:, :2])
    for is_format_n, size_n2 in sizes:
        known_n2 = tf.where(is_format_n[:, None], size_n2, known_n2)
    return known_n2

"""The op that decodes pictures, and its parts.

H, W height and width, C = 3 channels (red, green, blue).
"""

import io

import numpy as np
import tensorflow as tf
from PIL import Image

from clipa_jax.preprocess.registry import Function, Sample, op

WHITE = 255
MAX_PIXELS = 1 << 26  # of a picture: 8192 x 8192, 192 MiB when decoded
# A branch that is rarely taken, as a call of its own: TensorFlow examines the ops of an inlined
# branch even where it is not taken, which takes longer than the ops of a JPEG's header.
rare = tf.function(autograph=False, experimental_attributes={"_noinline": True})
_HEADER = 26  # bytes that tell a format, a WebP's flags and a PNG's depth and kind of color
_CHUNKS = 4_096  # bytes in which a PNG has the color that is transparent, if any
_PILLOW_FORMATS = ("BMP", "GIF", "PNG", "WEBP")


@op("decode")
def decode() -> Function:
    """Encoded bytes () -> uint8 (H, W, C).

    JPEG, PNG, GIF (its first frame), WebP and BMP; gray, CMYK and 16-bit pictures become RGB,
    transparent ones are laid on white. EXIF orientation is ignored, as in open_clip.
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
        _needs_pillow(encoded),
        lambda: tf.numpy_function(_with_pillow, [encoded], tf.uint8, stateful=False),
        lambda: tf.io.decode_image(encoded, channels=0, expand_animations=False),
    )
    image = tf.ensure_shape(image, (None, None, None))

    def on_white() -> tf.Tensor:
        alpha = tf.cast(image[..., -1:], tf.float32) / 255
        color = tf.cast(image[..., :-1], tf.float32)
        return _rounded(color * alpha + WHITE * (1 - alpha)) + tf.zeros([3], tf.uint8)

    def opaque() -> tf.Tensor:
        return image + tf.zeros([3], tf.uint8)  # one channel becomes three

    image = tf.cond(tf.shape(image)[2] % 2 == 0, on_white, opaque)
    return tf.ensure_shape(image, (None, None, 3))


def _needs_pillow(encoded: tf.Tensor) -> tf.Tensor:
    """Whether the bytes are a BMP, a GIF, an animated WebP or a PNG with one transparent color.

    TensorFlow 2.21 knows no palettes of a BMP and takes its unused bytes for alpha, ignores the
    transparency of a GIF and of a color of a PNG, and writes beyond its memory at an animated WebP,
    which ends the process.
    """
    header = tf.strings.join([tf.strings.substr(encoded, 0, _HEADER), b"\0" * _HEADER])
    byte = tf.io.decode_raw(tf.strings.substr(header, 0, _HEADER), tf.uint8)
    flags, depth, color = byte[20], byte[24], byte[25]
    is_png = tf.strings.substr(header, 0, 4) == b"\x89PNG"
    has_key = tf.strings.regex_full_match(tf.strings.substr(encoded, 0, _CHUNKS), r"\C*tRNS\C*")
    is_keyed = is_png & (depth <= 8) & ((color == 0) | (color == 2)) & has_key
    is_extended = tf.strings.substr(header, 8, 8) == b"WEBPVP8X"
    is_animated = is_extended & (flags & tf.constant(2, tf.uint8) != 0)
    is_bmp = tf.strings.substr(header, 0, 2) == b"BM"
    return is_animated | is_bmp | is_keyed | (tf.strings.substr(header, 0, 4) == b"GIF8")


def _with_pillow(encoded: bytes | np.ndarray) -> np.ndarray:
    """The first frame of a picture, uint8 (H, W, 3), or (H, W, 4) if it is transparent."""
    data = encoded if isinstance(encoded, bytes) else encoded.item()
    with Image.open(io.BytesIO(data), formats=_PILLOW_FORMATS) as picture:
        return np.asarray(picture.convert("RGBA" if picture.has_transparency_data else "RGB"))


def _rounded(values: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.clip_by_value(values + 0.5, 0.0, 255.0), tf.uint8)

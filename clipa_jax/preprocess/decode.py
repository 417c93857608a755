"""The op that decodes pictures, and what it is made of.

H, W height and width, C = 3 channels (red, green, blue).
"""

import tensorflow as tf

from clipa_jax.preprocess.registry import Function, Sample, op

WHITE = 255


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
    image = tf.io.decode_image(encoded, channels=0, expand_animations=False)
    image = tf.ensure_shape(image, (None, None, None))

    def on_white() -> tf.Tensor:
        alpha = tf.cast(image[..., -1:], tf.float32) / 255
        colour = tf.cast(image[..., :-1], tf.float32)
        return _rounded(colour * alpha + WHITE * (1 - alpha)) + tf.zeros([3], tf.uint8)

    def opaque() -> tf.Tensor:
        return image + tf.zeros([3], tf.uint8)  # one channel becomes three

    image = tf.cond(tf.shape(image)[2] % 2 == 0, on_white, opaque)
    return tf.ensure_shape(image, (None, None, 3))


def _rounded(values: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.clip_by_value(values + 0.5, 0.0, 255.0), tf.uint8)

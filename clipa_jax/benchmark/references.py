"""A reference for the input pipeline: the preprocessing of the released CLIPA code.

Our own implementation of its steps (UCSC-VLAA/CLIPA, clipa_jax/transforms/ops_image.py and
simclr_aug.py): decode the whole picture, cut out the box, resize it with antialiasing, and jitter
in RGB and HSV, in four steps of random order. tf.data chooses threads and prefetching, as in our
pipeline, since the original settings fit one machine only.
"""

import clipa_jax.preprocess  # noqa: F401 (first, since it keeps TensorFlow quiet)

# isort: split
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from clipa_jax.data import feed
from clipa_jax.data.sources import Source


def clipa_chain(
    source: Source, batch_size: int, window: int, size: int, strength: float
) -> Iterator[tf.Tensor]:
    """Endless batches of pictures, uint8 (B, R, R, 3); a strength of 0 is no color jitter."""

    def preprocess(record: tf.Tensor) -> tf.Tensor:
        encoded = source.parse(record)["image"]
        image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
        begin_3, size_3, _ = tf.image.sample_distorted_bounding_box(
            tf.shape(image),
            tf.zeros([0, 0, 4]),
            area_range=(0.4, 1.0),
            min_object_covered=0,
            use_image_if_no_bounding_boxes=True,
        )
        image = tf.ensure_shape(tf.slice(image, begin_3, size_3), (None, None, 3))
        image = tf.cast(tf.image.resize(image, (size, size), antialias=True), tf.uint8)
        return _jitter(image, strength) if strength else image

    starts = [(number, shard.start, shard.length) for number, shard in enumerate(source.shards)]
    files = tf.data.Dataset.from_tensor_slices(np.array(starts, np.int64))
    read = files.interleave(lambda start: source.read(start[0], start[1], start[2]))
    read = read.repeat().shuffle(window)
    images = read.map(preprocess, num_parallel_calls=tf.data.AUTOTUNE)
    batches = images.batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
    options = tf.data.Options()
    options.threading.max_intra_op_parallelism = 1
    return feed.Feed(batches.with_options(options))


def _jitter(image: tf.Tensor, strength: float) -> tf.Tensor:
    """Jitters the colors with probability 0.8; makes the picture gray with 0.2."""
    image = tf.cast(image, tf.float32) / 255
    image = _with_probability(0.8, lambda: _colors(image, strength), image)
    gray = tf.tile(tf.image.rgb_to_grayscale(image), [1, 1, 3])
    image = _with_probability(0.2, lambda: gray, image)
    return tf.cast(tf.clip_by_value(image * 255, 0, 255), tf.uint8)


def _colors(image: tf.Tensor, strength: float) -> tf.Tensor:
    order = tf.random.shuffle(tf.range(4))
    for place in range(4):
        image = tf.clip_by_value(_change(image, order[place], 0.8 * strength), 0.0, 1.0)
    return image


def _change(image: tf.Tensor, which: tf.Tensor, spread: float) -> tf.Tensor:
    changes = (
        lambda: image * tf.random.uniform([], 1 - spread, 1 + spread),
        lambda: tf.image.random_contrast(image, 1 - spread, 1 + spread),
        lambda: tf.image.random_saturation(image, 1 - spread, 1 + spread),
        lambda: tf.image.random_hue(image, spread / 4),
    )
    return tf.switch_case(which, changes)


def _with_probability(p: float, changed, image: tf.Tensor) -> tf.Tensor:
    return tf.cond(tf.random.uniform([]) < p, changed, lambda: image)

"""Uniform numbers for many samples at once, by the SplitMix64 generator.

TensorFlow's stateless generators take one seed at a time; this takes a few ops for all samples.

n samples, D numbers drawn for each.
"""

import numpy as np
import tensorflow as tf

_GOLDEN = 0x9E3779B97F4A7C15


def uniform(seed_n2: tf.Tensor, count: int) -> tf.Tensor:
    """Numbers in [0, 1), float32 (n, D) with D = count, from a seed for each sample."""
    seed_n2 = tf.bitcast(seed_n2, tf.uint64)
    state_n = _mix(_mix(seed_n2[:, 0] + _GOLDEN) + seed_n2[:, 1] + _GOLDEN)
    steps_D = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    bits_nD = tf.bitwise.right_shift(_mix(state_n[:, None] + steps_D), tf.constant(40, tf.uint64))
    return tf.cast(bits_nD, tf.float32) * 2.0**-24


def _mix(x: tf.Tensor) -> tf.Tensor:
    """The finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), modulo 2^64."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        shifted = tf.bitwise.right_shift(x, tf.constant(shift, tf.uint64))
        x = tf.bitwise.bitwise_xor(x, shifted) * tf.constant(factor, tf.uint64)
    return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, tf.constant(31, tf.uint64)))

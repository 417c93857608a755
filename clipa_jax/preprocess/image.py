"""Ops on pictures: resizing and augmentation, all uint8 in and out; `crop` has the random boxes.

Every op maps sample["image"] to sample["image"]. Resizing is bilinear, where no other method
is given, with antialiasing (a filter as wide as the reduction), and results are rounded.

H, W height and width, R pixels a side, C = 3 channels (red, green, blue). A leading `...`
stands for nothing or for a batch.

# differs from CLIPA: it cut floats off instead of rounding them, half a gray level too dark
# (transforms/ops_image.py:85, 122).
"""

import math

import numpy as np
import tensorflow as tf

from clipa_jax.config.batch import COLOR, JITTER_OP
from clipa_jax.errors import ConfigError, unknown
from clipa_jax.preprocess.decode import WHITE
from clipa_jax.preprocess.registry import Function, Sample, op

_KERNELS = {"bilinear": "triangle", "bicubic": "keyscubic"}
_LUMA = (0.299, 0.587, 0.114)
_YIQ = (_LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


@op("resize")
def resize(size: int, method: str = "bilinear") -> Function:
    """uint8 (H, W, C) -> (R, R, C) with R = size, whatever the aspect ratio, by bilinear or bicubic
    interpolation."""
    check_size("resize", size)
    kernel = _kernel("resize", method)
    return lambda sample: {**sample, "image": resized(sample["image"], (size, size), kernel=kernel)}


@op("resize_small")
def resize_small(size: int, method: str = "bilinear") -> Function:
    """uint8 (H, W, C) -> the same aspect ratio with the short side of `size` pixels."""
    check_size("resize_small", size)
    kernel = _kernel("resize_small", method)

    def apply(sample: Sample) -> Sample:
        shape_2 = tf.shape(sample["image"])[:2]
        scale = size / tf.reduce_min(shape_2)
        target_2 = tf.cast(tf.round(tf.cast(shape_2, tf.float64) * scale), tf.int32)
        return {**sample, "image": resized(sample["image"], target_2, kernel=kernel)}

    return apply


@op("central_crop")
def central_crop(size: int) -> Function:
    """uint8 (H, W, C) -> the middle (R, R, C) with R = size; H and W must be at least R."""
    check_size("central_crop", size)

    def apply(sample: Sample) -> Sample:
        image = sample["image"]
        top = (tf.shape(image)[0] - size) // 2
        left = (tf.shape(image)[1] - size) // 2
        image = image[top : top + size, left : left + size]
        return {**sample, "image": tf.ensure_shape(image, (size, size, 3))}

    return apply


@op("flip_lr", draws=1, batched=True)
def flip_lr() -> Function:
    """Mirrors half of the pictures, uint8 (..., H, W, C)."""

    def apply(sample: Sample, *, draws: tf.Tensor) -> Sample:
        image = sample["image"]
        mirror = draws[..., None, None, :] < 0.5
        return {**sample, "image": tf.where(mirror, tf.reverse(image, [-2]), image)}

    return apply


@op(JITTER_OP, draws=6, batched=True)
def jitter(*strengths: float, p: float = 0.8, gray: float = 0.2) -> Function:
    """Draws random colors, after SimCLR (arXiv 2002.05709, appendix A).

    Brightness, contrast about each channel's mean, saturation and hue are linear in the
    colors, so all are one matrix and the contrast: sample["color"], float32 (..., 10). The
    devices apply it (`clipa_jax.models.color_jitter`) after all other ops, wherever this one
    stands in the string.

    # differs from CLIPA: saturation and hue act in YIQ instead of HSV, and values are cut to
    # 0..255 once at the end instead of after each of four steps in random order.

    One strength s gives brightness, contrast and saturation in 1 +- 0.8 s and a hue turned by
    +- 0.2 s of the circle; four are these spreads themselves, as in `jitter(0.32, 0.32, 0.32,
    0.08)`. A share p of the pictures changes, and a share `gray` of all loses its colors.
    """
    spreads = [x * strengths[0] for x in (0.8, 0.8, 0.8, 0.2)] if len(strengths) == 1 else strengths
    if len(spreads) != 4 or min(spreads) < 0:
        raise ConfigError(f"jitter{strengths}: expected one strength or four, none negative")
    luma_CC, chroma_CC, turned_CC = _color_matrices()

    def apply(sample: Sample, *, draws: tf.Tensor) -> Sample:
        if COLOR in sample:
            raise ConfigError("jitter occurs twice in the preprocessing; use it once")
        active = tf.cast(draws[..., 0] < p, tf.float32)
        bright, contrast, saturate, hue = (
            active * spread * (2 * draws[..., 2 + i] - 1) for i, spread in enumerate(spreads)
        )
        saturation = tf.nn.relu(1 + saturate) * tf.cast(draws[..., 1] >= gray, tf.float32)
        cos, sin = tf.cos(2 * math.pi * hue), tf.sin(2 * math.pi * hue)
        matrix_CC = luma_CC + _square(saturation * cos) * chroma_CC
        matrix_CC += _square(saturation * sin) * turned_CC
        matrix_CC *= _square(tf.nn.relu(1 + bright))
        matrix = tf.reshape(matrix_CC, [*draws.shape[:-1], 9])
        return {
            **sample,
            COLOR: tf.concat([matrix, tf.nn.relu(1 + contrast)[..., None]], -1),
        }

    return apply


@op("rotate", draws=1, batched=True)
def rotate(degrees: float) -> Function:
    """Turns pictures, uint8 (..., H, W, C), about their center by up to +- `degrees`.

    Bilinear; what comes in from outside is white. Meant for a few degrees.
    """

    def apply(sample: Sample, *, draws: tf.Tensor) -> Sample:
        image = sample["image"]
        shape = tf.shape(image)
        images_BHWC = tf.cast(tf.reshape(image, tf.concat([[-1], shape[-3:]], 0)), tf.float32)
        angle_B = tf.reshape((2 * draws - 1) * math.radians(degrees), [-1])
        cos_B, sin_B, zero_B = tf.cos(angle_B), tf.sin(angle_B), tf.zeros_like(angle_B)
        y, x = (tf.cast(shape[axis] - 1, tf.float32) / 2 for axis in (-3, -2))
        rows = [cos_B, -sin_B, x - cos_B * x + sin_B * y, sin_B, cos_B, y - sin_B * x - cos_B * y]
        turned_BHWC = tf.raw_ops.ImageProjectiveTransformV3(
            images=images_BHWC,
            transforms=tf.stack([*rows, zero_B, zero_B], 1),
            output_shape=shape[-3:-1],
            interpolation="BILINEAR",
            fill_mode="CONSTANT",
            fill_value=float(WHITE),
        )
        turned = tf.reshape(_to_uint8(turned_BHWC), shape)
        return {**sample, "image": tf.ensure_shape(turned, image.shape)}

    return apply


def check_size(name: str, size: int) -> None:
    """Raises `ConfigError` for what is no number of pixels a side, with the op's name."""
    if not isinstance(size, int) or size < 1:
        raise ConfigError(f"{name}({size!r}): expected a whole number of pixels, at least 1")


def _kernel(name: str, method: str) -> str:
    if method not in _KERNELS:
        raise ConfigError(f"{name}: " + unknown("method", str(method), _KERNELS))
    return _KERNELS[method]


def _to_uint8(values: tf.Tensor) -> tf.Tensor:
    """Rounded and cut to 0..255; ties go up."""
    return tf.cast(tf.clip_by_value(values + 0.5, 0.0, 255.0), tf.uint8)


def resized(image: tf.Tensor, size_2, kernel: str = "triangle") -> tf.Tensor:
    """uint8 (H, W, C) -> uint8 (size_2[0], size_2[1], C), exact to rounding; the kernel is one of
    TensorFlow's ScaleAndTranslate."""
    values = tf.raw_ops.ScaleAndTranslate(
        images=image[None],
        size=size_2,
        scale=tf.cast(size_2, tf.float32) / tf.cast(tf.shape(image)[:2], tf.float32),
        translation=(0.0, 0.0),
        kernel_type=kernel,
        antialias=True,
    )
    return _to_uint8(values[0])


def _square(values: tf.Tensor) -> tf.Tensor:
    """(...) -> (..., 1, 1), a factor for matrices."""
    return values[..., None, None]


def _color_matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrices (C, C) for colors as rows: to luma, to the rest, and to the rest turned by 90."""
    to_yiq = np.transpose(_YIQ)
    quarter = np.array([[0, 0, 0], [0, 0, 1], [0, -1, 0]])
    luma = np.outer(_LUMA, np.ones(3))
    turned = to_yiq @ quarter @ np.linalg.inv(to_yiq)
    return luma.astype(np.float32), (np.eye(3) - luma).astype(np.float32), turned.astype(np.float32)

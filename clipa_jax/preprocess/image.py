"""Ops on pictures: cropping, resizing and augmentation, all uint8 in and out.

Every op maps sample["image"] to sample["image"]. Resizing is bilinear, where no other method
is given, with antialiasing (a filter as wide as the reduction), and results are rounded.

H, W height and width, R pixels a side, C = 3 channels (red, green, blue). A leading `...`
stands for nothing or for a batch.

# differs from CLIPA: it cut floats off instead of rounding them, half a grey level too dark
# (transforms/ops_image.py:85, 122).
"""

import functools
import math

import numpy as np
import tensorflow as tf

from clipa_jax.errors import ConfigError, unknown
from clipa_jax.preprocess import decode
from clipa_jax.preprocess.decode import WHITE
from clipa_jax.preprocess.registry import Function, Sample, op

_ATTEMPTS = 10  # boxes drawn until one fits into the picture
_CROP_DRAWS = 2 * _ATTEMPTS + 2
_JPEG_RATIOS = (1, 2, 4, 8)  # what libjpeg can reduce by while it decodes
_KERNELS = {"bilinear": "triangle", "bicubic": "keyscubic"}
_LUMA = (0.299, 0.587, 0.114)
_YIQ = (_LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


@op("resize", entry="image")
def resize(size: int, method: str = "bilinear") -> Function:
    """uint8 (H, W, C) -> (R, R, C) with R = size, whatever the aspect ratio.

    Args:
      size: pixels a side.
      method: bilinear or bicubic.
    """
    _check_size("resize", size)
    kernel = _kernel("resize", method)
    return lambda sample: {**sample, "image": _resize(sample["image"], (size, size), kernel=kernel)}


@op("resize_small", entry="image")
def resize_small(size: int, method: str = "bilinear") -> Function:
    """uint8 (H, W, C) -> the same aspect ratio with the short side of `size` pixels.

    Args:
      size: pixels.
      method: bilinear or bicubic.
    """
    _check_size("resize_small", size)
    kernel = _kernel("resize_small", method)

    def apply(sample: Sample) -> Sample:
        shape_2 = tf.shape(sample["image"])[:2]
        scale = size / tf.reduce_min(shape_2)
        target_2 = tf.cast(tf.round(tf.cast(shape_2, tf.float64) * scale), tf.int32)
        return {**sample, "image": _resize(sample["image"], target_2, kernel=kernel)}

    return apply


@op("central_crop", entry="image")
def central_crop(size: int) -> Function:
    """uint8 (H, W, C) -> the middle (R, R, C) with R = size; H and W must be at least R."""
    _check_size("central_crop", size)

    def apply(sample: Sample) -> Sample:
        image = sample["image"]
        top = (tf.shape(image)[0] - size) // 2
        left = (tf.shape(image)[1] - size) // 2
        image = image[top : top + size, left : left + size]
        return {**sample, "image": tf.ensure_shape(image, (size, size, 3))}

    return apply


@op("inception_crop", entry="image", draws=_CROP_DRAWS)
def inception_crop(
    size: int,
    area_min: float = 40,
    area_max: float = 100,
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> Function:
    """uint8 (H, W, C) -> a random box of the picture, resized to (R, R, C) with R = size.

    The area is uniform, the aspect ratio log-uniform, the place uniform among those
    inside the picture. Where no box fits, as in very long pictures, the box is the whole.

    Args:
      size: pixels a side.
      area_min: of the box, in percent of the picture; recipes of arXiv 2306.15658 take 40.
      area_max: likewise.
      aspect: smallest and largest width / height of the box.
    """
    draw_box = _boxes("inception_crop", size, area_min, area_max, aspect)

    def apply(sample: Sample, *, draws: tf.Tensor) -> Sample:
        image = sample["image"]
        shape_2 = tf.shape(image)[:2]
        image = _crop(image, draw_box(draws, shape_2[0], shape_2[1]))
        return {**sample, "image": _resize(image, (size, size))}

    return apply


@op(
    "decode_and_inception_crop",
    entry="image",
    draws=_CROP_DRAWS,
    fuses=("decode", "inception_crop"),
)
def decode_and_inception_crop(
    size: int,
    area_min: float = 40,
    area_max: float = 100,
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> Function:
    """Encoded bytes () -> the same as `decode|inception_crop(...)`, (R, R, C), for less work.

    Only the box of a JPEG is decoded, at a half, a quarter or an eighth of the resolution
    where that still has `size` pixels a side.
    """
    draw_box = _boxes("inception_crop", size, area_min, area_max, aspect)

    def jpeg(encoded: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        shape_3 = tf.io.extract_jpeg_shape(encoded)
        box_4 = draw_box(draws, shape_3[0], shape_3[1])
        larger = tf.constant([size * ratio for ratio in _JPEG_RATIOS[1:]])
        level = tf.reduce_sum(tf.cast(tf.reduce_min(box_4[2:]) >= larger, tf.int32))
        branches = [
            functools.partial(_crop_jpeg, encoded, shape_3, box_4, ratio, size)
            for ratio in _JPEG_RATIOS
        ]
        return tf.switch_case(level, branches)

    def other(encoded: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        image = decode.any_format(encoded)
        shape_2 = tf.shape(image)[:2]
        return _resize(_crop(image, draw_box(draws, shape_2[0], shape_2[1])), (size, size))

    def apply(sample: Sample, *, draws: tf.Tensor) -> Sample:
        encoded = sample["image"]
        image = tf.cond(
            tf.io.is_jpeg(encoded), lambda: jpeg(encoded, draws), lambda: other(encoded, draws)
        )
        return {**sample, "image": tf.ensure_shape(image, (size, size, 3))}

    return apply


@op("flip_lr", entry="image", draws=1, batched=True)
def flip_lr() -> Function:
    """Mirrors half of the pictures, uint8 (..., H, W, C)."""

    def apply(sample: Sample, *, draws: tf.Tensor) -> Sample:
        image = sample["image"]
        mirror = draws[..., None, None, :] < 0.5
        return {**sample, "image": tf.where(mirror, tf.reverse(image, [-2]), image)}

    return apply


@op("jitter", entry="image", draws=6, batched=True)
def jitter(*strengths: float, p: float = 0.8, gray: float = 0.2) -> Function:
    """Random colours, uint8 (..., H, W, C), after SimCLR (arXiv 2002.05709, appendix A).

    Brightness, contrast about each channel's mean, saturation and hue are linear in the
    colours and commute, so all are one matrix and one offset a picture.

    # differs from CLIPA: saturation and hue act in YIQ instead of HSV, and values are cut to
    # 0..255 once at the end instead of after each of four steps in random order.

    Args:
      *strengths: one number s for brightness, contrast and saturation in 1 +- 0.8 s and a
        hue turned by +- 0.2 s of the circle; or these four spreads themselves, as in
        `jitter(0.32, 0.32, 0.32, 0.08)`.
      p: share of the pictures that change.
      gray: share of the pictures that lose their colours, whether they change or not.
    """
    spreads = [x * strengths[0] for x in (0.8, 0.8, 0.8, 0.2)] if len(strengths) == 1 else strengths
    if len(spreads) != 4 or min(spreads) < 0:
        raise ConfigError(f"jitter{strengths}: expected one strength or four, none negative")
    luma_CC, chroma_CC, turned_CC = _colour_matrices()

    def apply(sample: Sample, *, draws: tf.Tensor) -> Sample:
        image = sample["image"]
        active = tf.cast(draws[..., 0] < p, tf.float32)
        bright, contrast, saturate, hue = (
            active * spread * (2 * draws[..., 2 + i] - 1) for i, spread in enumerate(spreads)
        )
        colourful = tf.nn.relu(1 + saturate) * tf.cast(draws[..., 1] >= gray, tf.float32)
        cos, sin = tf.cos(2 * math.pi * hue), tf.sin(2 * math.pi * hue)
        matrix_CC = luma_CC + _square(colourful * cos) * chroma_CC
        matrix_CC += _square(colourful * sin) * turned_CC
        matrix_CC *= _square(tf.nn.relu(1 + bright))
        shape = tf.shape(image)
        pixels_PC = tf.cast(tf.reshape(image, tf.concat([shape[:-3], [-1, 3]], 0)), tf.float32)
        mean_1C = tf.reduce_mean(pixels_PC, -2, keepdims=True)
        keep = _square(tf.nn.relu(1 + contrast))
        offset_1C = tf.matmul(mean_1C, matrix_CC * (1 - keep))
        pixels_PC = tf.matmul(pixels_PC, matrix_CC * keep) + offset_1C
        return {**sample, "image": tf.reshape(_to_uint8(pixels_PC), shape)}

    return apply


@op("rotate", entry="image", draws=1, batched=True)
def rotate(degrees: float) -> Function:
    """Turns pictures, uint8 (..., H, W, C), about their centre by up to +- `degrees`.

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


def _check_size(name: str, size: int) -> None:
    if not isinstance(size, int) or size < 1:
        raise ConfigError(f"{name}({size!r}): expected a whole number of pixels, at least 1")


def _kernel(name: str, method: str) -> str:
    if method not in _KERNELS:
        raise ConfigError(f"{name}: " + unknown("method", str(method), _KERNELS))
    return _KERNELS[method]


def _to_uint8(values: tf.Tensor) -> tf.Tensor:
    """Rounded and cut to 0..255; ties go up."""
    return tf.cast(tf.clip_by_value(values + 0.5, 0.0, 255.0), tf.uint8)


def _resize(
    image: tf.Tensor, size_2, scale_2=None, shift_2=(0.0, 0.0), kernel: str = "triangle"
) -> tf.Tensor:
    """uint8 (H, W, C) -> uint8 (size_2[0], size_2[1], C).

    Args:
      image: the picture.
      size_2: rows and columns of the result.
      scale_2: result pixels for one of the picture; None fills the result.
      shift_2: where the picture's corner comes to lie, in pixels of the result.
      kernel: of TensorFlow's ScaleAndTranslate.
    """
    if scale_2 is None:
        scale_2 = tf.cast(size_2, tf.float32) / tf.cast(tf.shape(image)[:2], tf.float32)
    resized = tf.raw_ops.ScaleAndTranslate(
        images=image[None],
        size=size_2,
        scale=scale_2,
        translation=shift_2,
        kernel_type=kernel,
        antialias=True,
    )
    return _to_uint8(resized[0])


def _crop(image: tf.Tensor, box_4: tf.Tensor) -> tf.Tensor:
    top, left, height, width = tf.unstack(box_4)
    return image[top : top + height, left : left + width]


def _crop_jpeg(
    encoded: tf.Tensor, shape_3: tf.Tensor, box_4: tf.Tensor, ratio: int, size: int
) -> tf.Tensor:
    """A box of a JPEG, decoded at 1/ratio of its resolution, as uint8 (size, size, C).

    Args:
      encoded: the bytes.
      shape_3: the picture's (H, W, channels).
      box_4: top, left, height and width in pixels of the full resolution.
      ratio: one of `_JPEG_RATIOS`.
      size: R.
    """
    if ratio == 1:
        return _resize(tf.image.decode_and_crop_jpeg(encoded, box_4, channels=3), (size, size))
    # The reduced pixels that the box touches; where it begins inside them is left to `_resize`.
    first_2 = box_4[:2] // ratio
    last_2 = -((-box_4[:2] - box_4[2:]) // ratio)
    last_2 = tf.minimum(last_2, -(-shape_3[:2] // ratio))
    image = tf.image.decode_and_crop_jpeg(
        encoded, tf.concat([first_2, last_2 - first_2], 0), channels=3, ratio=ratio
    )
    scale_2 = size * ratio / tf.cast(box_4[2:], tf.float32)
    shift_2 = scale_2 * (tf.cast(first_2, tf.float32) - tf.cast(box_4[:2], tf.float32) / ratio)
    return _resize(image, (size, size), scale_2, shift_2)


def _boxes(name: str, size: int, area_min: float, area_max: float, aspect: tuple[float, float]):
    """A function from draws (22,), H and W to a box: int32 (top, left, height, width)."""
    _check_size(name, size)
    if not 0 < area_min <= area_max <= 100:
        raise ConfigError(f"{name}: areas {area_min}..{area_max} % are not inside 0..100")
    if not 0 < aspect[0] <= aspect[1]:
        raise ConfigError(f"{name}: aspect={aspect} must be two positive numbers in order")
    logs = math.log(aspect[0]), math.log(aspect[1])

    def draw(draws: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
        whole_2 = tf.cast(tf.stack([height, width]), tf.float32)
        shares_A = area_min / 100 + draws[:_ATTEMPTS] * (area_max - area_min) / 100
        ratios_A = tf.exp(logs[0] / 2 + draws[_ATTEMPTS:-2] * (logs[1] - logs[0]) / 2)
        sides_A = tf.sqrt(shares_A * whole_2[0] * whole_2[1])
        # One more that always fits stands at the end.
        sizes_A2 = tf.round(tf.stack([sides_A / ratios_A, sides_A * ratios_A], 1))
        sizes_A2 = tf.concat([tf.maximum(sizes_A2, 1), whole_2[None]], 0)
        fits_A = tf.reduce_all(sizes_A2 <= whole_2, 1)
        size_2 = sizes_A2[tf.argmax(tf.cast(fits_A, tf.int32))]
        corner_2 = tf.floor(draws[-2:] * (whole_2 - size_2 + 1))
        return tf.cast(tf.concat([corner_2, size_2], 0), tf.int32)

    return draw


def _square(values: tf.Tensor) -> tf.Tensor:
    """(...) -> (..., 1, 1), a factor for matrices."""
    return values[..., None, None]


def _colour_matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrices (C, C) for colours as rows: to luma, to the rest, and to the rest turned by 90."""
    to_yiq = np.transpose(_YIQ)
    quarter = np.array([[0, 0, 0], [0, 0, 1], [0, -1, 0]])
    luma = np.outer(_LUMA, np.ones(3))
    turned = to_yiq @ quarter @ np.linalg.inv(to_yiq)
    return luma.astype(np.float32), (np.eye(3) - luma).astype(np.float32), turned.astype(np.float32)

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
from typing import Any

import numpy as np
import tensorflow as tf

from clipa_jax.errors import ConfigError, unknown
from clipa_jax.preprocess import decode
from clipa_jax.preprocess.decode import WHITE
from clipa_jax.preprocess.registry import Function, Sample, op

_ATTEMPTS = 10  # boxes drawn until one fits into the picture
_CROP_DRAWS = 2 * _ATTEMPTS + 2
REDUCTIONS = (1, 2, 4, 8)  # what libjpeg can reduce by while it decodes
_NEAR = 1.25  # pixels left per pixel of the result, below which bilinear needs no antialiasing
_BLOCK = 16  # pixels a side of the largest usual block of a JPEG
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
    draw = _boxes("inception_crop", size, area_min, area_max, aspect)

    def apply(sample: Sample, *, draws: tf.Tensor) -> Sample:
        image = sample["image"]
        box_4, _ = draw(draws, tf.shape(image)[:2])
        return {**sample, "image": _resize(_crop(image, box_4), (size, size))}

    return apply


@op("read_size", entry="image")
def read_size(*args: Any, **kwargs: Any) -> Function:
    """Adds sample["_size"], int64 (H, W) as the header of the encoded picture has them."""
    del args, kwargs

    def apply(sample: Sample) -> Sample:
        known = sample.get("_size")
        return {**sample, "_size": decode.size(sample["image"]) if known is None else known}

    return apply


@op("draw_box", entry="image", draws=_CROP_DRAWS, batched=True)
def draw_box(
    size: int,
    area_min: float = 40,
    area_max: float = 100,
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> Function:
    """sample["_size"] (..., 2) -> sample["_box"] (..., 4), the box of `inception_crop`, and
    sample["_level"] (...), see `_boxes`."""
    draw = _boxes("inception_crop", size, area_min, area_max, aspect)

    def apply(sample: Sample, *, draws: tf.Tensor) -> Sample:
        box_4, level = draw(draws, sample.pop("_size"))
        return {**sample, "_box": box_4, "_level": level}

    return apply


@op(
    "decode_box",
    entry="image",
    fuses=("decode", "inception_crop"),
    before=("read_size", "draw_box"),
)
def decode_box(
    size: int,
    area_min: float = 40,
    area_max: float = 100,
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> Function:
    """Encoded bytes () -> nearly the same as `decode|inception_crop(...)`, for half the work.

    Of a JPEG no more than the box is decoded, already reduced to a half, a quarter or an
    eighth where that leaves as many pixels as the result has. What is left to do is resized as
    fast as keeps it near to bilinear with antialiasing, which other formats get exactly:
    docs/performance.md has the differences and the times.
    """
    del area_min, area_max, aspect  # the box is there already

    # Reduced by 4 or 8, libjpeg's own error leaves none for another resize that is not exact.
    def jpeg(encoded: tf.Tensor, box_4: tf.Tensor, ratio: int) -> tf.Tensor:
        image = decode_reduced(encoded, box_4, ratio)
        return _quick_resize(image, size) if ratio <= 2 else _resize(image, (size, size))

    @decode.rare
    def other(encoded: tf.Tensor, box_4: tf.Tensor) -> tf.Tensor:
        return _resize(_crop(decode.any_format(encoded), box_4), (size, size))

    def apply(sample: Sample) -> Sample:
        sample = dict(sample)
        encoded, box_4, level = sample["image"], sample.pop("_box"), sample.pop("_level")
        jpegs = [functools.partial(jpeg, encoded, box_4, ratio) for ratio in REDUCTIONS]
        which = tf.where(tf.io.is_jpeg(encoded), level, len(REDUCTIONS))
        image = tf.switch_case(which, [*jpegs, functools.partial(other, encoded, box_4)])
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
    """Draws random colours, after SimCLR (arXiv 2002.05709, appendix A).

    Brightness, contrast about each channel's mean, saturation and hue are linear in the
    colours, so all are one matrix and the contrast: sample["colour"], float32 (..., 10). The
    devices apply it (`clipa_jax.colours`) after all other ops, wherever this one stands.

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
        if "colour" in sample:
            raise ConfigError("jitter stands twice in the preprocessing; once is all it can")
        active = tf.cast(draws[..., 0] < p, tf.float32)
        bright, contrast, saturate, hue = (
            active * spread * (2 * draws[..., 2 + i] - 1) for i, spread in enumerate(spreads)
        )
        colourful = tf.nn.relu(1 + saturate) * tf.cast(draws[..., 1] >= gray, tf.float32)
        cos, sin = tf.cos(2 * math.pi * hue), tf.sin(2 * math.pi * hue)
        matrix_CC = luma_CC + _square(colourful * cos) * chroma_CC
        matrix_CC += _square(colourful * sin) * turned_CC
        matrix_CC *= _square(tf.nn.relu(1 + bright))
        matrix = tf.reshape(matrix_CC, [*draws.shape[:-1], 9])
        return {
            **sample,
            "colour": tf.concat([matrix, tf.nn.relu(1 + contrast)[..., None]], -1),
        }

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


def decode_reduced(encoded: tf.Tensor, box_4: tf.Tensor, ratio: int) -> tf.Tensor:
    """A box of a JPEG, on the grid of `ratio` pixels, at 1/ratio of its size: uint8 (h, w, C).

    libjpeg decodes from the left end of a block on. Where the box begins inside one, TensorFlow
    copies row by row what libjpeg has just written past the caches, some 20 us a picture; so we
    decode from there on and cut the columns before the box off ourselves.
    """
    top, left, height, width = tf.unstack(box_4 // ratio)
    before = left % (_BLOCK // ratio)
    window_4 = tf.stack([top, left - before, height, width + before])
    image = tf.image.decode_and_crop_jpeg(encoded, window_4, channels=3, ratio=ratio)
    return image[:, before:]


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


def _resize(image: tf.Tensor, size_2, kernel: str = "triangle") -> tf.Tensor:
    """uint8 (H, W, C) -> uint8 (size_2[0], size_2[1], C), exact to rounding.

    Args:
      image: the picture.
      size_2: rows and columns of the result.
      kernel: of TensorFlow's ScaleAndTranslate.
    """
    resized = tf.raw_ops.ScaleAndTranslate(
        images=image[None],
        size=size_2,
        scale=tf.cast(size_2, tf.float32) / tf.cast(tf.shape(image)[:2], tf.float32),
        translation=(0.0, 0.0),
        kernel_type=kernel,
        antialias=True,
    )
    return _to_uint8(resized[0])


def _quick_resize(image: tf.Tensor, size: int) -> tf.Tensor:
    """uint8 (H, W, C) -> uint8 (R, R, C), R = size: bilinear, or means of areas, which take longer
    but leave no pixel out, where much is left to reduce."""
    near = tf.reduce_min(tf.shape(image)[:2]) < math.ceil(_NEAR * size)
    options = {"images": image[None], "size": (size, size)}
    resized = tf.cond(
        near,
        lambda: tf.raw_ops.ResizeBilinear(**options, half_pixel_centers=True),
        lambda: tf.raw_ops.ResizeArea(**options),
    )
    return tf.cast(resized[0] + 0.5, tf.uint8)  # means of 0..255: nothing to cut off


def _crop(image: tf.Tensor, box_4: tf.Tensor) -> tf.Tensor:
    top, left, height, width = tf.unstack(box_4)
    return image[top : top + height, left : left + width]


def _boxes(name: str, size: int, area_min: float, area_max: float, aspect: tuple[float, float]):
    """A function from draws (..., 22) and sizes (..., 2), H and W, to boxes: int32 (..., 4), of
    top, left, height and width.

    It also gives int32 (...) by which of `REDUCTIONS` a JPEG is reduced as it is decoded. The
    box lies on that grid, whatever the format.
    """
    _check_size(name, size)
    if not 0 < area_min <= area_max <= 100:
        raise ConfigError(f"{name}: areas {area_min}..{area_max} % are not inside 0..100")
    if not 0 < aspect[0] <= aspect[1]:
        raise ConfigError(f"{name}: aspect={aspect} must be two positive numbers in order")
    logs = math.log(aspect[0]), math.log(aspect[1])
    least = tf.constant([float(size * ratio) for ratio in REDUCTIONS[1:]])

    def draw(draws: tf.Tensor, size_2: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        whole_2 = tf.cast(size_2, tf.float32)
        shares_A = area_min / 100 + draws[..., :_ATTEMPTS] * (area_max - area_min) / 100
        ratios_A = tf.exp(logs[0] / 2 + draws[..., _ATTEMPTS:-2] * (logs[1] - logs[0]) / 2)
        sides_A = tf.sqrt(shares_A * tf.reduce_prod(whole_2, -1, keepdims=True))
        # One more that always fits stands at the end.
        boxes_A2 = tf.round(tf.stack([sides_A / ratios_A, sides_A * ratios_A], -1))
        whole_12 = whole_2[..., None, :]
        boxes_A2 = tf.concat([tf.maximum(boxes_A2, 1), whole_12], -2)
        fits_A = tf.reduce_all(boxes_A2 <= whole_12, -1)
        first = tf.argmax(tf.cast(fits_A, tf.int32), -1)
        box_2 = tf.gather(boxes_A2, first, batch_dims=len(first.shape))
        spare = tf.reduce_min(box_2, -1, keepdims=True) >= least
        level = tf.reduce_sum(tf.cast(spare, tf.int32), -1)
        step_1 = tf.gather(REDUCTIONS, level)[..., None]
        box_2 = tf.cast(box_2, tf.int32) // step_1
        places_2 = tf.cast(size_2, tf.int32) // step_1 - box_2 + 1
        corner_2 = tf.cast(draws[..., -2:] * tf.cast(places_2, tf.float32), tf.int32)
        return tf.concat([corner_2, box_2], -1) * step_1, level

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

"""Random boxes of pictures, resized; and how little of a JPEG has to be decoded for one.

H, W height and width, R pixels a side of the result, h, w of a box at the size at which it is
decoded, C = 3 channels. A leading `...` stands for nothing or for a batch.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from clipa_jax.errors import ConfigError
from clipa_jax.preprocess import decode, header
from clipa_jax.preprocess.fusion import Switch
from clipa_jax.preprocess.image import check_size, resized
from clipa_jax.preprocess.registry import Function, Sample, op

_ATTEMPTS = 10  # boxes drawn until one fits into the picture
_CROP_DRAWS = 2 * _ATTEMPTS + 2
REDUCTIONS = (1, 2, 4, 8)  # what libjpeg can reduce by while it decodes
_ENOUGH = (0.9, 1, 1)  # pixels left per pixel of the result that allow for each of the last three
_NEAR = 1.35  # likewise, below which bilinear needs no antialiasing
_BLOCK = 16  # pixels a side of the largest usual block of a JPEG


@op("inception_crop", draws=_CROP_DRAWS)
def inception_crop(
    size: int,
    area_min: float = 40,
    area_max: float = 100,
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> Function:
    """uint8 (H, W, C) -> a random box of the picture, resized to (R, R, C) with R = size.

    The area is uniform, in percent of the picture (recipes of arXiv 2306.15658 take 40 to 100), the
    aspect ratio, width / height, log-uniform, the place uniform among those inside the picture.
    Where no box fits, as in very long pictures, the box is the whole.
    """
    draw = _boxes("inception_crop", size, area_min, area_max, aspect)

    def apply(sample: Sample, *, draws: tf.Tensor) -> Sample:
        image = sample["image"]
        box_4, _ = draw(draws, tf.shape(image)[:2])
        return {**sample, "image": resized(_crop(image, box_4), (size, size))}

    return apply


@op("read_size")
def read_size(*args: Any, **kwargs: Any) -> Function:
    """Adds sample["_size"], int64 (H, W) from the header of the encoded picture, and
    sample["_jpeg"], whether it is a JPEG."""
    del args, kwargs
    return header.added


@op("draw_box", draws=_CROP_DRAWS, batched=True)
def draw_box(
    size: int,
    area_min: float = 40,
    area_max: float = 100,
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> Function:
    """Draws the box of `inception_crop` from what `read_size` adds, and how to decode it.

    sample["_box"] (..., 4) is the box. Of a JPEG, sample["_window"] (..., 4) is decoded, on the
    grid of the reduction; it begins at a block, and sample["_begin"] (..., 3) is where the box
    begins in it. sample["_branch"] (...) is an index of `JPEG_BRANCHES`, or their number for
    other formats.
    """
    draw = _boxes("inception_crop", size, area_min, area_max, aspect)

    def apply(sample: Sample, *, draws: tf.Tensor) -> Sample:
        box_4, level = draw(draws, sample.pop("_size"))
        ratio = tf.gather(REDUCTIONS, level)
        top, left, height, width = tf.unstack(box_4 // ratio[..., None], axis=-1)
        before = left % (_BLOCK // ratio)
        far = tf.minimum(height, width) >= math.ceil(_NEAR * size)
        branch = tf.where(level < 2, 2 * level + tf.cast(far, tf.int32), level + 2)
        return {
            **sample,
            "_box": box_4,
            "_window": tf.stack([top, left - before, height, width + before], -1),
            "_begin": tf.stack([tf.zeros_like(before), before, tf.zeros_like(before)], -1),
            "_branch": tf.where(sample["_jpeg"], branch, len(JPEG_BRANCHES)),
        }

    return apply


@op("decode_box")
def decode_box(size: int, *args: Any, **kwargs: Any) -> Function:
    """Encoded bytes () -> nearly the same as `decode|inception_crop(...)`, for half the work.

    Of a JPEG only the box is decoded, already reduced to a half, a quarter or an eighth where that
    leaves about as many pixels as the result has. The rest is resized as fast as keeps it near to
    bilinear with antialiasing, which other formats get exactly; docs/performance.md links to the
    differences and the times.
    """
    del args, kwargs  # they are for `draw_box`

    def of_jpeg(ratio: int, resize: Resize) -> Callable[[Sample], tf.Tensor]:
        return lambda sample: rounded(resize(decode_reduced(sample, ratio), size))

    def other(sample: Sample) -> tf.Tensor:
        return rounded(_exact(_crop(decode.any_format(sample["image"]), sample["_box"]), size))

    def rounded(image: tf.Tensor) -> tf.Tensor:  # within 0..255, so no value has to be clipped
        return tf.reshape(tf.cast(image + 0.5, tf.uint8), (size, size, 3))

    spec = tf.TensorSpec((size, size, 3), tf.uint8)
    return by_format([*itertools.starmap(of_jpeg, JPEG_BRANCHES), other], spec)


def by_format(branches: Sequence[Callable[[Sample], tf.Tensor]], spec: tf.TensorSpec) -> Switch:
    """A switch with a branch for each of `JPEG_BRANCHES`, and the last one for other formats.

    The rare ones share a branch, since each branch of a chunk costs a loop.
    """

    def rare(sample: Sample) -> tf.Tensor:
        rest = [functools.partial(branch, sample) for branch in branches[_COMMON:]]
        return tf.switch_case(sample["_branch"] - _COMMON, rest)

    entries = ("_box", "_window", "_begin")
    return Switch("_branch", [*branches[:_COMMON], rare], entries, "image", spec)


def decode_reduced(sample: Sample, ratio: int) -> tf.Tensor:
    """A box of a JPEG at 1/ratio of its size, see `draw_box`: uint8 (h, w, C).

    libjpeg decodes from the left end of a block on. Where the box begins inside one, TensorFlow
    copies row by row what libjpeg has just written past the caches, some 20 us a picture; so we
    decode from there on and cut the columns before the box off ourselves.
    """
    image = tf.image.decode_and_crop_jpeg(
        sample["image"], sample["_window"], channels=3, ratio=ratio
    )
    return tf.slice(image, sample["_begin"], (-1, -1, -1))


def _bilinear(image: tf.Tensor, size: int) -> tf.Tensor:
    images = tf.expand_dims(image, 0)
    return tf.raw_ops.ResizeBilinear(images=images, size=(size, size), half_pixel_centers=True)


def _means(image: tf.Tensor, size: int) -> tf.Tensor:
    """Means of areas: takes longer than `_bilinear`, but leaves no pixel out."""
    return tf.raw_ops.ResizeArea(images=tf.expand_dims(image, 0), size=(size, size))


@decode.rare
def _exact(image: tf.Tensor, size: int) -> tf.Tensor:
    return tf.cast(resized(image, (size, size))[None], tf.float32)


# Pairs: the factor by which libjpeg reduces a box as it decodes it, and the resize of the rest,
# from uint8 (h, w, C) to float32 (1, R, R, C). After 4 and 8 it is exact: libjpeg's own error
# leaves no room for another.
Resize = Callable[[tf.Tensor, int], tf.Tensor]
JPEG_BRANCHES: tuple[tuple[int, Resize], ...] = (
    (1, _bilinear),
    (1, _means),
    (2, _bilinear),
    (2, _means),
    (4, _exact),
    (8, _exact),
)
_COMMON = 4  # the first ones, for pictures that are not far larger than the result


def _crop(image: tf.Tensor, box_4: tf.Tensor) -> tf.Tensor:
    top, left, height, width = tf.unstack(box_4)
    return image[top : top + height, left : left + width]


def _boxes(name: str, size: int, area_min: float, area_max: float, aspect: tuple[float, float]):
    """A function from draws (..., 22) and sizes (..., 2), H and W, to boxes: int32 (..., 4), of
    top, left, height and width.

    It also gives int32 (...) by which of `REDUCTIONS` a JPEG is reduced as it is decoded. The
    box lies on that grid, whatever the format.
    """
    check_size(name, size)
    if not 0 < area_min <= area_max <= 100:
        raise ConfigError(f"{name}: areas {area_min}..{area_max} % are not inside 0..100")
    if not 0 < aspect[0] <= aspect[1]:
        raise ConfigError(f"{name}: aspect={aspect} must be two positive numbers in order")
    logs = math.log(aspect[0]), math.log(aspect[1])
    least = [size * r * enough for r, enough in zip(REDUCTIONS[1:], _ENOUGH, strict=True)]

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

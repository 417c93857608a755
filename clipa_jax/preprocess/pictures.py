"""Pictures in memory or by path, prepared as in evaluation. R pixels a side."""

import functools
import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from clipa_jax.errors import DataError
from clipa_jax.preprocess import registry
from clipa_jax.runtime import files

Function = Callable[[tf.Tensor], tf.Tensor]
ENCODED, DECODED = tf.TensorSpec([], tf.string), tf.TensorSpec([None, None, 3], tf.uint8)
SINGLE = (str, os.PathLike, bytes, Image.Image)  # one picture, where several are expected
_EXPECTED = (
    "expected PIL images, paths, encoded bytes, uint8 (height, width, 3) arrays of any size, or "
    "preprocessed float ones of {res}x{res} pixels"
)


def batches(pictures: Any, preprocess: str, res: int, batch_size: int) -> Iterator[np.ndarray]:
    """Prepares pictures in threads, the next batch while the caller has the last.

    They are PIL images, paths, encoded bytes or arrays, which may be mixed; `preprocess` begins
    with `decode`. Yields (batch_size, R, R, 3), fewer at the end, uint8, or float32 where the
    pictures are. Raises `DataError`, which names the picture, for one that cannot be read or is of
    another dtype or shape.
    """
    if isinstance(pictures, Iterator):
        pictures = list(pictures)
    if not hasattr(pictures, "__len__"):
        raise DataError(f"got {type(pictures).__name__}; {_EXPECTED.format(res=res)}")
    rest = preprocess.removeprefix("decode").removeprefix("|")
    encoded, decoded = _traced(preprocess, ENCODED), _traced(rest, DECODED) if rest else None
    prepare = functools.partial(_prepare, encoded, decoded, res)
    pending: list[Future] = []
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(pictures) + batch_size, batch_size):
            part = range(start, min(start + batch_size, len(pictures)))
            futures = [pool.submit(prepare, pictures[index], index) for index in part]
            if pending:
                yield np.stack([future.result() for future in pending])
            pending = futures


def _prepare(
    encoded: Function, decoded: Function | None, res: int, picture: Any, index: int
) -> np.ndarray:
    name = picture if isinstance(picture, str | os.PathLike) else f"picture {index}"
    if isinstance(picture, str | os.PathLike):
        picture = files.read_bytes(picture)
    if isinstance(picture, Image.Image):
        picture = _pixels(picture)
    if isinstance(picture, bytes):
        try:
            return encoded(tf.constant(picture)).numpy()
        except tf.errors.OpError:
            raise DataError(f"{name} is not a picture, is damaged, or too large") from None
    array = np.asarray(picture)
    if array.dtype.kind == "f" and array.shape == (res, res, 3):
        if not np.isfinite(array).all():
            raise DataError(f"{name} has values that are not finite")
        return array.astype(np.float32)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise DataError(f"{name} is {array.dtype} {array.shape}; {_EXPECTED.format(res=res)}")
    return decoded(tf.constant(array)).numpy() if decoded else array


def _pixels(picture: Image.Image) -> np.ndarray | bytes:
    """The pixels of an opaque picture; a transparent one as a PNG, which `decode` lays on white."""
    if not picture.has_transparency_data:
        return np.asarray(picture.convert("RGB"))
    buffer = io.BytesIO()
    picture.convert("RGBA").save(buffer, "png", compress_level=0)
    return buffer.getvalue()


@functools.cache
def _traced(preprocess: str, spec: tf.TensorSpec) -> Function:
    """The ops as one function of a picture."""
    ops = registry.build(preprocess)
    return tf.function(lambda image: ops({"image": image})["image"]).get_concrete_function(spec)

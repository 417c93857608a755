"""Pictures stored at smaller sizes: what the host saves, and how far the crops change."""

import dataclasses
import io
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict
from PIL import Image

from clipa_jax.config.settings import Settings
from clipa_jax.data import pipeline, sources
from clipa_jax.errors import DataError
from clipa_jax.prepare import records, throughput
from clipa_jax.prepare.options import Options
from clipa_jax.prepare.samples import Sample, SampleReader
from clipa_jax.prepare.source_statistics import parts
from clipa_jax.runtime.format import significant, table

COUNT = 1_024  # pictures that are measured
AREAS = (0.4, 0.7, 1.0)  # of the compared crops


@dataclass(frozen=True)
class Stored:
    """Pictures with a short side of `side` pixels; larger ones are resized to it."""

    side: int
    kilobytes: float  # of a picture, the mean
    images_per_second_per_core: float
    cores_per_chip: float
    mean_difference: float  # of crops at the stage's resolution to those of the source, 0 to 255


def measure(
    config: ConfigDict, sides: Sequence[int], seconds: float, required: float
) -> list[dict[str, Any]]:
    """The rows of `Stored` as JSON, for `prepare_data --resize` at each side.

    Args:
      config: of the stage; its whole pipeline is timed for `seconds` with each side.
      required: samples/s of one chip.
    """
    section = Settings(config, "config").input
    source = pipeline.open_source(section)
    rows = []
    for side in sides:
        pictures = list(_samples(source, side, section.max_pixels))
        if not pictures:
            raise DataError(f"{source.spec}: no good sample to store with {side} pixels")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "0.tfrecord"
            with tf.io.TFRecordWriter(str(path)) as writer:
                for sample in pictures:
                    writer.write(records.record(sample.stored, sample.captions, sample.id, {}))
            small = config.copy_and_resolve_references()
            small.input.update(source=f"tfrecord:{path}", caption=None)
            rate = throughput.images_per_core(small, seconds)
        row = Stored(
            side=side,
            kilobytes=round(float(np.mean([len(sample.stored) for sample in pictures])) / 1e3, 2),
            images_per_second_per_core=round(rate, 1),
            cores_per_chip=round(required / rate, 2),
            mean_difference=round(_difference(pictures, section.res), 2),
        )
        rows.append(dataclasses.asdict(row))
    return rows


def text(rows: list[dict[str, Any]]) -> str:
    """The rows as a table."""
    names = ("stored at", "KB a picture", "images/s a core", "cores a chip", "difference of crops")
    cells = [(f"{row['side']} px", *map(significant, list(row.values())[1:])) for row in rows]
    return table([names, *cells], right=range(1, len(names)))


def _samples(source: sources.Source, side: int, max_pixels: int) -> Iterator[Sample]:
    """Good samples of a source, stored as `prepare_data` does by default."""
    components = source.components if isinstance(source, sources.Mixture) else (source,)
    encode = records.encoder(side, Options.quality)
    for component in components:
        reader = SampleReader(component, encode, max_pixels=max_pixels)
        for shard, start, length in parts(component, COUNT // len(components)):
            yield from (s for s in reader.read(shard, start, length) if not s.reason)


def _difference(samples: Sequence[Sample], res: int) -> float:
    """Mean absolute difference of crops (res, res) of the stored pictures and of the source's."""
    return float(
        np.mean([np.abs(_crops(s.stored, res) - _crops(s.image, res)).mean() for s in samples])
    )


def _crops(encoded: bytes, res: int) -> np.ndarray:
    """Square crops (areas, res, res, 3) from the center, exactly placed, with antialiasing."""
    picture = Image.open(io.BytesIO(encoded)).convert("RGB")
    crops = []
    for area in AREAS:
        side = math.sqrt(area) * min(picture.size)
        left, top = ((length - side) / 2 for length in picture.size)
        box = (left, top, left + side, top + side)
        crops.append(np.asarray(picture.resize((res, res), Image.Resampling.BILINEAR, box)))
    return np.stack(crops).astype(np.float32)

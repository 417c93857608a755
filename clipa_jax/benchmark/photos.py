"""Makes the photographs of the data benchmark: many small JPEGs from a few large pictures.

python -m pip download --no-deps --dest PHOTOS scikit-image scikit-learn
python -m clipa_jax.benchmark.photos --photos=PHOTOS --out=OUT
python tools/benchmark.py data --config=configs/model_h/pretrain.py \\
    --config.input.source="tfrecord:OUT/*.tfrecord"

Any folder of photographs works; wheels and zip files in it are read, too. Each picture gives the
same number of random squares, reduced to `--side` pixels and written with img2dataset's defaults:
JPEG of quality 95 with subsampled chroma.
"""

import clipa_jax.preprocess  # noqa: F401 (first, since it keeps TensorFlow quiet)

# isort: split
import gzip
import io
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import flags, logging
from PIL import Image

from clipa_jax.errors import DataError
from clipa_jax.preprocess import lexicon
from clipa_jax.runtime import cli

_PICTURES = (".jpg", ".jpeg", ".png", ".webp")
_ARCHIVES = (".whl", ".zip")
_SHARDS = 16
_WORDS = (4, 20)  # of a caption, fewest and most


def main(argv: list[str]) -> None:
    """Writes the files."""
    del argv
    given = flags.FLAGS
    write([*map(Path, given.photos)], Path(given.out), given.count, given.side, given.quality)


def write(folders: list[Path], out: Path, count: int, side: int, quality: int) -> None:
    """Writes `count` JPEGs of `side` pixels with captions as TFRecord files, deterministically."""
    pictures = [picture for picture in _pictures(folders) if min(picture.size) >= side]
    if not pictures:
        raise DataError(f"no color pictures of {side} pixels or more in {folders}")
    rng = np.random.default_rng(0)
    words, shares = _words()
    samples = [
        _example(
            number,
            _jpeg(_square(pictures[number % len(pictures)], side, rng), quality),
            " ".join(rng.choice(words, rng.integers(*_WORDS, endpoint=True), p=shares)),
        )
        for number in range(count)
    ]
    out.mkdir(parents=True, exist_ok=True)
    for shard in range(_SHARDS):
        with tf.io.TFRecordWriter(str(out / f"{shard:05d}.tfrecord")) as writer:
            for sample in samples[shard::_SHARDS]:
                writer.write(sample)
    size = sum(map(len, samples)) / count
    logging.info("%d JPEGs of %d pictures, %.1f KB each", count, len(pictures), size / 1e3)


def _pictures(folders: list[Path]) -> Iterator[Image.Image]:
    """The color pictures of all folders, in a fixed order."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in _PICTURES:
                yield from _decoded(path.read_bytes())
            elif path.suffix.lower() in _ARCHIVES:
                with zipfile.ZipFile(path) as archive:
                    for name in sorted(archive.namelist()):
                        if name.lower().endswith(_PICTURES):
                            yield from _decoded(archive.read(name))


def _decoded(encoded: bytes) -> Iterator[Image.Image]:
    picture = Image.open(io.BytesIO(encoded))
    if picture.mode == "RGB":
        yield picture.convert("RGB")  # decodes it now


def _square(picture: Image.Image, side: int, rng: np.random.Generator) -> Image.Image:
    """A random square of a picture, its size uniform on a logarithmic scale."""
    size = round(math.exp(rng.uniform(math.log(side), math.log(min(picture.size)))))
    left, top = (int(rng.integers(0, length - size, endpoint=True)) for length in picture.size)
    box = (left, top, left + size, top + size)
    return picture.resize((side, side), Image.Resampling.LANCZOS, box)


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _words() -> tuple[np.ndarray, np.ndarray]:
    """Words for captions and their frequencies on the web."""
    lines = gzip.decompress((lexicon.ASSETS / "frequencies.tsv.gz").read_bytes()).decode()
    rows = [line.split("\t") for line in lines.splitlines() if line and line[0] != "#"]
    counts = np.array([float(count) for _, count in rows])
    return np.array([word for word, _ in rows]), counts / counts.sum()


def _example(number: int, jpeg: bytes, caption: str) -> bytes:
    """A record with img2dataset's names."""
    values = {"jpg": jpeg, "txt": caption.encode(), "key": f"{number:09d}".encode()}
    feature = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for name, value in values.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def start() -> None:
    """Runs the command line."""
    flags.DEFINE_list("photos", None, "Folders with photographs, wheels or zips.", required=True)
    cli.writes_to_disk(
        flags.DEFINE_string("out", None, "Folder of the TFRecord files.", required=True)
    )
    flags.DEFINE_integer("count", 4_096, "Number of pictures to make.")
    flags.DEFINE_integer("side", 256, "Their pixels a side.")
    flags.DEFINE_integer("quality", 95, "Of the JPEGs.")
    cli.run(main, needs_config=False)


if __name__ == "__main__":
    start()

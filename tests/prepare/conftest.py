"""A small messy dataset with planted faults, as img2dataset writes TFRecord files."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from clipa_jax.prepare import dataset
from tests.helpers.prepared import options


@dataclass(frozen=True)
class Messy:
    """A source, and what is in it.

    Attributes:
      source: as a config names it.
      good: ids of the samples that have no fault, in the order of the files.
      bad: ids by the fault that was planted.
    """

    source: str
    good: list[str]
    bad: dict[str, list[str]]

    @property
    def total(self) -> int:
        return len(self.good) + sum(map(len, self.bad.values()))


def photo(number: int, width: int = 48, height: int = 40, mode: str = "RGB") -> Image.Image:
    """A smooth picture of its own."""
    rng = np.random.default_rng(number)
    small = rng.integers(0, 256, (5, 6, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def encoded(picture: Image.Image, kind: str = "JPEG", **how) -> bytes:
    """A picture as a file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **({"quality": 90} if kind == "JPEG" else {}), **how)
    return buffer.getvalue()


def example(**fields: bytes | str | int) -> bytes:
    """A record with these features."""
    feature = {}
    for name, value in fields.items():
        if isinstance(value, int):
            feature[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        else:
            data = value.encode() if isinstance(value, str) else value
            feature[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[data]))
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def write(path: Path, records: list[bytes]) -> None:
    """A TFRecord file."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


@pytest.fixture(scope="session")
def messy(tmp_path_factory) -> Messy:
    """Three files; every fault is there at least once."""
    folder = tmp_path_factory.mktemp("messy")
    samples = {f"good{n}": (encoded(photo(n)), f"a picture of number {n}") for n in range(30)}
    samples["large"] = (encoded(photo(40, 200, 100)), "a large picture")
    samples["alpha"] = (encoded(photo(41, mode="RGBA"), "PNG"), "a picture with an alpha channel")
    samples["cmyk"] = (encoded(photo(42, mode="CMYK")), "a picture for printers")
    samples["gif"] = (encoded(photo(43, mode="P"), "GIF"), "a picture of the nineties")
    samples["other"] = (samples["good3"][0], "the same picture in other words")
    good = list(samples)
    bad = {
        "decode": {
            "truncated": (samples["good0"][0][:400], "a truncated picture"),
            "garbage": (b"no picture at all", "not a picture"),
        },
        "missing_key": {"without": (b"", "no picture")},
        "empty_caption": {"blank": (encoded(photo(50)), "  ")},
        "too_small": {"tiny": (encoded(photo(51, 30, 7)), "a tiny picture")},
        "too_elongated": {"long": (encoded(photo(52, 300, 20)), "a long picture")},
        "caption_too_short": {"short": (encoded(photo(53)), "ab")},
        "duplicate": {"again": samples["good1"], "and_again": samples["good1"]},
        "unreadable": {"checksum": (encoded(photo(54)), "a record with a bad checksum")},
    }
    lost = samples | {name: sample for group in bad.values() for name, sample in group.items()}
    records = [
        example(jpg=image, txt=text, key=name, width=len(name))
        for name, (image, text) in lost.items()
    ]
    for number, part in enumerate((records[:20], records[20:25], records[25:])):
        write(folder / f"{number:05d}.tfrecord", part)
    last = folder / "00002.tfrecord"
    content = bytearray(last.read_bytes())
    content[-20] ^= 0xFF  # inside the last record
    last.write_bytes(content)
    return Messy(f"tfrecord:{folder}/*.tfrecord", good, {k: list(v) for k, v in bad.items()})


@pytest.fixture(scope="session")
def made(messy, tmp_path_factory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("made") / "pairs" / "1.0.0"
    return out, dataset.make(options(messy), str(out))

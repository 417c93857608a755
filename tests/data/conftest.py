"""Tiny datasets whose pictures tell which sample they are."""

import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from ml_collections import ConfigDict
from PIL import Image

from clipa_jax.config.settings import Settings
from clipa_jax.data import reading, sources
from tests.helpers import writers

LENGTHS = (13, 9, 17, 11)  # samples of each shard
TOTAL = sum(LENGTHS)
SIDE = 8


def picture(number: int) -> bytes:
    """A PNG of one colour that encodes `number`."""
    colour = np.array([number % 16 * 10, number // 16 * 10, 200], np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.broadcast_to(colour, (SIDE, SIDE, 3))).save(buffer, "PNG")
    return buffer.getvalue()


def numbers(image_BHWC: np.ndarray) -> list[int]:
    """Which samples a batch holds."""
    assert (image_BHWC == image_BHWC[:, :1, :1]).all()
    colour = image_BHWC[:, 0, 0].astype(int)
    return (colour[:, 1] // 10 * 16 + colour[:, 0] // 10).tolist()


def sample(number: int) -> dict:
    """The fields of a sample."""
    return {
        "image": picture(number),
        "captions": [f"picture {number}", f"number {number}"],
        "id": f"id{number}",
        "label": number % 3,
    }


SAMPLES = [sample(number) for number in range(TOTAL)]
SHARDED = ("tfds", "array_record", "tfrecord", "webdataset", "parquet")
SINGLE = ("folder", "table")


def write_tfrecords(folder: Path, samples: list[dict], lengths=LENGTHS) -> str:
    """Files as img2dataset writes them; a None among the fields leaves one out."""
    folder.mkdir(parents=True, exist_ok=True)
    rest = iter(samples)
    for shard, length in enumerate(lengths):
        with tf.io.TFRecordWriter(str(folder / f"{shard:05d}.tfrecord")) as writer:
            for _ in range(length):
                writer.write(example(next(rest)).SerializeToString())
    return f"tfrecord:{folder}/*.tfrecord"


def example(fields: dict) -> tf.train.Example:
    """A tf.train.Example with img2dataset's names."""
    names = {"image": "png", "captions": "txt", "id": "key"}
    feature = {}
    for name, value in fields.items():
        if value is None:
            continue
        values = value if isinstance(value, list) else [value]
        if isinstance(values[0], int):
            one = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        else:
            data = [v.encode() if isinstance(v, str) else v for v in values]
            one = tf.train.Feature(bytes_list=tf.train.BytesList(value=data))
        feature[names.get(name, name)] = one
    return tf.train.Example(features=tf.train.Features(feature=feature))


def tfds_features() -> tfds.features.FeaturesDict:
    """Of a sample."""
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(encoding_format="png"),
            "captions": tfds.features.Sequence(tfds.features.Text()),
            "id": tfds.features.Text(),
            "label": tfds.features.ClassLabel(names=["a", "b", "c"]),
        }
    )


class _ArrayRecords:
    """ArrayRecord's writer, used as TensorFlow's."""

    def __init__(self, path: str):
        self._writer = ArrayRecordWriter(path, "group_size:1")

    def __enter__(self):
        return self._writer

    def __exit__(self, *error):
        self._writer.close()


def write_tfds(
    folder: Path, splits: dict[str, list[dict]], lengths=LENGTHS, kind: str = "tfrecord"
) -> str:
    """A TFDS folder of tfrecord or array_record files; the first split has shards of `lengths`."""
    folder.mkdir(parents=True, exist_ok=True)
    features = tfds_features()
    open_writer = tf.io.TFRecordWriter if kind == "tfrecord" else _ArrayRecords
    template = tfds.core.ShardedFileTemplate(
        data_dir=str(folder),
        dataset_name="tiny",
        split="train",
        filetype_suffix=kind,
        template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    )
    infos = []
    for split, samples in splits.items():
        name = template.replace(split=split)
        sizes = lengths if not infos else (len(samples),)
        rest = iter(samples)
        for shard, size in enumerate(sizes):
            path = name.sharded_filepath(shard_index=shard, num_shards=len(sizes))
            with open_writer(str(path)) as writer:
                for _ in range(size):
                    writer.write(features.serialize_example(features.encode_example(next(rest))))
        infos.append(
            tfds.core.SplitInfo(
                name=split, shard_lengths=list(sizes), num_bytes=0, filename_template=name
            )
        )
    tfds.folder_dataset.write_metadata(
        data_dir=str(folder), features=features, split_infos=infos, check_data=kind == "tfrecord"
    )
    return f"tfds:{folder}"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Indexes that cannot be kept beside the data go here."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def specs(tmp_path_factory) -> dict[str, str]:
    """TOTAL samples in every format."""
    folder = tmp_path_factory.mktemp("formats")
    splits = {"train": SAMPLES}
    return {
        "tfds": write_tfds(folder / "tfds" / "tiny" / "1.0.0", splits),
        "array_record": write_tfds(
            folder / "array" / "tiny" / "1.0.0", splits, kind="array_record"
        ),
        "tfrecord": write_tfrecords(folder / "tfrecord", SAMPLES),
        "webdataset": writers.write_tars(folder / "tars", SAMPLES, LENGTHS),
        "parquet": writers.write_parquet(folder / "parquet", SAMPLES, LENGTHS),
        "parquet flat": writers.write_parquet(folder / "flat", SAMPLES, LENGTHS, nested=False),
        "folder": writers.write_folder(folder / "folder", SAMPLES),
        "table": writers.write_table(folder / "table", SAMPLES),
    }


@pytest.fixture(scope="session")
def tfds_spec(tmp_path_factory) -> str:
    """A TFDS folder of TOTAL samples in shards of LENGTHS, and an empty split."""
    samples = [sample(number) for number in range(TOTAL)]
    folder = tmp_path_factory.mktemp("tfds") / "tiny" / "1.0.0"
    return write_tfds(folder, {"train": samples, "test": samples[:7], "none": []})


@pytest.fixture(scope="session")
def tfrecord_spec(tmp_path_factory) -> str:
    """The same samples as TFRecord files."""
    samples = [sample(number) for number in range(TOTAL)]
    return write_tfrecords(tmp_path_factory.mktemp("tfrecord"), samples)


def settings(source: str, **changes) -> Settings:
    """An `input` section."""
    values = {
        "source": source,
        "split": "train",
        "caption": None,
        "clean": "none",
        "batch_size": 8,
        "res": SIDE,
        "preprocess": "decode|resize({res})",
        "cache": "none",
        "order": "auto",
        "max_pixels": 1 << 26,
        "lanes": 4,
        "shuffle_window": 16,
        "max_skip_percent": 1.0,
    }
    return Settings(ConfigDict({**values, **changes}), "config.input")


def everything(spec: str, features=(), split="train", caption=None) -> list[dict]:
    """All samples of a source as Python values, in order; None for what cannot be read."""
    source = sources.open(spec, split, features, sources.Choice.of(caption))
    samples = []
    for record in reading.everything(source):
        if not any(record.numpy()):
            samples.append(None)
            continue
        values = {k: v.numpy() for k, v in source.parse(record, features).items()}
        samples.append({**values, "captions": [text.decode() for text in values["captions"]]})
    return samples

"""Small sources with odd records, and ways to look at what becomes of them."""

import tarfile
from pathlib import Path

import tensorflow as tf

from clipa_jax.data import bad_samples, map_chunk, pipeline, reading, robust_map, sources
from tests.data.conftest import everything, picture, sample, settings, write_tfrecords
from tests.helpers import writers

PICTURE = picture(1)
TEXTS = "decode|resize(8)|choose_caption|hash_caption"


def write_tar(path, members) -> str:
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            writers.add(tar, name, content.encode() if isinstance(content, str) else content)
    return f"webdataset:{path}"


def write_json_tar(folder, documents) -> str:
    members = []
    for number, document in enumerate(documents):
        members += [(f"{number:04d}.png", PICTURE), (f"{number:04d}.json", document)]
    return write_tar(folder / "0.tar", members)


def write_records(path, features: list[dict]) -> str:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for values in features:
            feature = {
                name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
                for name, value in values.items()
            }
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())
    return f"tfrecord:{path}"


def write_pictures(folder, names) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(PICTURE)


def captions(spec) -> list[list[str] | None]:
    return [sample and sample["captions"] for sample in everything(spec)]


def skipped(spec, number: int) -> dict[str, int]:
    """What training skips of `number` samples, by reason."""
    config = settings(spec, preprocess=TEXTS, batch_size=number, lanes=1, max_skip_percent=99.0)
    data = pipeline.train_data(config, seed=0)
    next(data.start())
    return data.skipped()


def write_one_by_one(folder: Path, images: list[bytes], captions=None) -> str:
    rows = [sample(number) for number in range(len(images))]
    for number, image in enumerate(images):
        rows[number]["image"] = image
        if captions is not None:
            rows[number]["captions"] = captions[number]
    return write_tfrecords(folder, rows, (len(rows),))


def counted(spec, reasons, *, percent=100.0, **changes):
    """The reasons of samples in the order of the file, and what the log names."""
    source = sources.open(spec, "train")
    size = source.num_examples
    preprocess = changes.pop("preprocess", "decode|inception_crop(8)|choose_caption")
    process, _ = robust_map.chunk_function(
        source, preprocess, size=size, seed=0, keep=("image", "tokens"), **changes
    )
    share = reading.Share(size, 0, size, size)
    done = process(reading.once(source, share).take(1)).get_single_element()
    found = [bad_samples.REASONS[reason] for reason in done[map_chunk.REASON].numpy()]
    assert found == reasons
    return done

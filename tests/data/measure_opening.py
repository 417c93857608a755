"""Requests, time and memory of a host before the first batch of a source of very many shards.

    python -m tests.data.measure_opening webdataset 140000         # in a bucket on loopback
    python -m tests.data.measure_opening tfrecord 140000 --local   # on the disk

Kinds: webdataset and tfrecord with their lengths in sizes.json, stats with those of img2dataset
instead, tfds. All shards have the same content, 10,000 pictures of about 25 kB; the bucket answers
each request 50 ms later, others beside it. The host is the first of 64 with the input section of
H/14, at a batch of 65,536: it reads 4 of 256 lanes. The second start finds the index of the first;
both read the same samples. A request is an HTTP request, counted by the server.
"""

import argparse
import collections
import contextlib
import json
import multiprocessing
import os
import resource
import shutil
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SAMPLES = 10_000  # of a shard
DELAY = 0.05  # seconds
HOSTS = 64
LINKS = 50_000  # of a file, on a disk
SUFFIX = {"webdataset": "tar", "stats": "tar", "tfrecord": "tfrecord"}


def names(kind: str, count: int) -> list[str]:
    """The shards of a dataset."""
    if kind == "tfds":
        width = max(len(str(count)), 5)
        return [f"pairs-train.tfrecord-{n:0{width}d}-of-{count:0{width}d}" for n in range(count)]
    return [f"{n:06d}.{SUFFIX[kind]}" for n in range(count)]


def write(kind: str, count: int, folder: Path) -> Path:
    """Writes what lies beside the shards to a folder, and a shard's content to a file of its own;
    returns that."""
    import tensorflow as tf  # noqa: PLC0415 (in the server's process alone)
    import tensorflow_datasets as tfds  # noqa: PLC0415

    from tests.helpers import writers  # noqa: PLC0415

    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (190, 190, 3), np.uint8)
    picture, shard = tf.io.encode_jpeg(noise, quality=85).numpy(), folder.parent / "shard"
    if SUFFIX.get(kind) == "tar":
        with tarfile.open(shard, "w") as tar:
            for number in range(SAMPLES):
                writers.add(tar, f"{number:08d}.jpg", picture)
                writers.add(tar, f"{number:08d}.txt", b"a picture of noise")
    else:
        texts = {"image": picture, "captions": b"a picture of noise"}
        feature = {
            name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
            for name, value in texts.items()
        }
        example = tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
        with tf.io.TFRecordWriter(str(shard)) as writer:
            for _ in range(SAMPLES):
                writer.write(example)
    if kind == "tfds":
        template = tfds.core.ShardedFileTemplate(
            data_dir=folder, dataset_name="pairs", split="train", filetype_suffix="tfrecord"
        )
        split = tfds.core.SplitInfo(
            name="train", shard_lengths=[SAMPLES] * count, num_bytes=0, filename_template=template
        )
        features = {"image": tfds.features.Image(), "captions": tfds.features.Text()}
        (example := folder / names(kind, count)[0]).touch()
        tfds.folder_dataset.write_metadata(
            data_dir=folder,
            features=tfds.features.FeaturesDict(features),
            split_infos=[split],
            version="1.0.0",
            check_data=False,
        )
        example.unlink()
    elif kind == "stats":
        for number in range(count):
            (folder / f"{number:06d}_stats.json").write_text(json.dumps({"successes": SAMPLES}))
    else:
        sizes = dict.fromkeys(names(kind, count), SAMPLES)
        (folder / "sizes.json").write_text(json.dumps(sizes))
    return shard


def serve(kind: str, count: int, pipe: Any) -> None:
    """The bucket, in a process of its own: sends its environment, then answers with the requests
    since the last question."""
    from tests.helpers import bucket as buckets  # noqa: PLC0415

    bucket = buckets.Bucket()
    with tempfile.TemporaryDirectory() as root:
        shard = write(kind, count, Path(root) / "data")
        bucket.put("data", dict.fromkeys(names(kind, count), shard.read_bytes()))
        beside = {path.name: path.read_bytes() for path in (Path(root) / "data").iterdir()}
        bucket.put("data", beside)
    bucket.delay = DELAY
    pipe.send(bucket.environment)
    while True:
        pipe.recv()
        pipe.send([*bucket.requests])
        bucket.requests.clear()


@contextlib.contextmanager
def in_bucket(kind: str, count: int):
    """The folder, and a function that counts the requests since its last call, by kind."""
    spawn = multiprocessing.get_context("spawn")
    mine, other = spawn.Pipe()
    server = spawn.Process(target=serve, args=(kind, count, other), daemon=True)
    server.start()
    os.environ.update(mine.recv())

    def requests() -> collections.Counter[str]:
        mine.send(None)
        return collections.Counter(map(role, mine.recv()))

    try:
        yield "gs://bucket/data", requests
    finally:
        server.terminate()


def role(request: tuple[str, str]) -> str:
    """What a request is for."""
    method, path = request
    if method != "GET":
        return "written"
    if path.partition("?")[0].endswith("/b/bucket/o"):
        return "pages of listings"
    whole = any(mark in path for mark in ("alt=media", "/bucket/data"))
    return "read" if whole else "looked up"


@contextlib.contextmanager
def on_disk(kind: str, count: int):
    """As `in_bucket`, on the disk, whose requests are not counted; a file has many names."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as root:
        folder = Path(root) / "data"
        shard = write(kind, count, folder)
        for number, name in enumerate(names(kind, count)):
            if number % LINKS == 0:
                copy = Path(shutil.copy(shard, f"{shard}-{number}"))
            os.link(copy, folder / name)
        yield str(folder), collections.Counter


def main() -> None:
    """Writes a line a start."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=[*SUFFIX, "tfds"])
    parser.add_argument("shards", type=int)
    parser.add_argument("--local", action="store_true")
    given = parser.parse_args()
    place = on_disk if given.local else in_bucket
    with place(given.kind, given.shards) as (folder, requests):
        start(given.kind, folder, requests)


def start(kind: str, folder: str, requests: Any) -> None:
    """Opens the source twice up to the first batch."""
    from clipa_jax.config import recipes, schedules  # noqa: PLC0415 (after the environment is set)
    from clipa_jax.config.settings import Settings  # noqa: PLC0415
    from clipa_jax.data import pipeline  # noqa: PLC0415
    from clipa_jax.data.sources import index  # noqa: PLC0415

    config = schedules.split(recipes.load("model_h/pretrain"))[0]
    config.input.source = f"tfds:{folder}"
    if kind in SUFFIX:
        config.input.source = f"{kind.replace('stats', 'webdataset')}:{folder}/*.{SUFFIX[kind]}"
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        for turn in ("first start", "second start"):
            index.opened.cache_clear()
            requests()
            begin, cpu = time.monotonic(), time.process_time()
            data = pipeline.train_data(Settings(config).input, seed=0, process_count=HOSTS)
            opened, after = time.monotonic(), requests()
            with contextlib.closing(data.start()) as batches:
                batch, _ = next(batches)
            seconds = time.monotonic() - begin
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            every = after + requests()
            print(
                f"{turn}: {len(data.source.shards):,} shards, {data.num_examples:,} samples, "
                f"{len(batch['image']):,} pictures; opened after {opened - begin:.1f} s and "
                f"{sum(after.values()):,} requests, first batch after "
                f"{seconds:.1f} s and {sum(every.values()):,} requests "
                f"{dict(every)}; {time.process_time() - cpu:.1f} s of a processor, peak of the "
                f"process {peak // 1024:,} MiB; skipped {data.skipped()}",
                flush=True,
            )


if __name__ == "__main__":
    main()

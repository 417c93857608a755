"""How fast records come out of each format, and what resuming in the middle of a shard reads.

    python -m tests.data.measure_reading [SAMPLES]

All formats hold the same samples of 20 kB in four shards, in the page cache, and are read in
the order of lanes; rounds are interleaved and the best of each format counts.
"""

import itertools
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from clipa_jax.data import reading, sources
from clipa_jax.data.order import GlobalOrder, LaneOrder, Shards
from clipa_jax.data.sources import tfrecord
from tests.data.conftest import write_tfds, write_tfrecords
from tests.helpers import writers

SIZE, ROUNDS, BATCH = 20_000, 3, 256


def write(folder: Path, count: int) -> dict[str, str]:
    """The same samples in every format."""
    rng, picture = np.random.default_rng(0), tf.io.encode_png(np.zeros((1, 1, 3), np.uint8)).numpy()
    samples = [
        {"image": picture + rng.bytes(SIZE), "captions": ["a caption"], "id": f"{n}", "label": 0}
        for n in range(count)
    ]
    lengths = (count // 4,) * 4
    flat = folder / "flat"
    return {
        "tfrecord": write_tfrecords(folder / "tfrecord", samples, lengths),
        "webdataset": writers.write_tars(folder / "tars", samples, lengths),
        "parquet": writers.write_parquet(flat, samples, lengths, nested=False, group=100),
        "tfds array_record": write_tfds(
            folder / "a" / "tiny" / "1.0.0", {"train": samples}, lengths, kind="array_record"
        ),
        "folder": writers.write_folder(folder / "folder", samples),
    }


def rate(source: sources.Source, order, count: int) -> float:
    """Records a second of one pass."""
    chunks = reading.chunks(source, order, 0, reading.Share(BATCH, 0, BATCH, 32))
    steps = iter(chunks)
    next(steps)  # building is not reading
    begin, number = time.monotonic(), count // 32 - BATCH // 32
    for _ in itertools.islice(steps, number):
        pass
    return number * 32 / (time.monotonic() - begin)


def read_bytes() -> int:
    """What this process has read so far, from the page cache or not."""
    return int(Path(f"/proc/{os.getpid()}/io").read_text().split()[1])


def main() -> None:
    """Writes, measures, prints."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 4096
    with tempfile.TemporaryDirectory() as temporary:
        specs = write(Path(temporary), count)
        opened = {kind: sources.open(spec, "train") for kind, spec in specs.items()}
        orders = {(k, "lanes"): LaneOrder(Shards.of(s), 0, 4, 256) for k, s in opened.items()}
        for kind, source in opened.items():
            if source.can_fetch:
                orders[kind, "global"] = GlobalOrder(Shards.of(source), 0)
        best = dict.fromkeys(orders, 0.0)
        for _ in range(ROUNDS):
            for (kind, name), order in orders.items():
                best[kind, name] = max(best[kind, name], rate(opened[kind], order, count))
        for (kind, name), value in best.items():
            share = value / best["tfrecord", "lanes"]
            print(f"{kind:18} {name:7} {value:8.0f} records/s  {share:.2f} of tfrecord")
        path = opened["tfrecord"].shards[0].path
        last = [tf.constant(number, tf.int64) for number in (count // 4 - 1, 1)]
        shard = tf.constant(0, tf.int64)
        for name, read in (
            ("with the index", lambda: opened["tfrecord"].read(shard, *last)),
            ("without", lambda: tfrecord.read(tf.constant(path), *last)),
        ):
            before = read_bytes()
            next(iter(read()))
            print(f"last record of {os.path.getsize(path)} bytes {name}: ", end="")
            print(f"{read_bytes() - before} bytes read")


if __name__ == "__main__":
    main()

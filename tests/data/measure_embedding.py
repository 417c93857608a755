"""Speed and memory of the embed command.

    python -m tests.data.measure_embedding rate 'tfrecord:OUT/*.tfrecord'
    python -m tests.data.measure_embedding memory 100000

`rate` measures S/16 at 112 px with random weights, beside its two halves, the image tower alone and
the pipeline alone, in turns; the share is that of the slower half in each round. `memory` embeds so
many tiny pictures and captions with a tiny model, and shows the most memory that the process held.
"""

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import tensorflow as tf

from clipa_jax import embed, loading, sharding, trees
from clipa_jax.config import recipes
from clipa_jax.config.batch import IMAGE
from clipa_jax.data import eval_batches, pipeline, sources
from tests.helpers import small_stage, tiny

ROUNDS, BATCH = 3, 64


def load(config) -> loading.Model:
    """The model of a stage with random weights."""
    model, params = tiny.init(config)
    return loading.on_mesh(config, model, trees.flatten(params), sharding.make_mesh())


def job(folder: str, source: str, **given) -> embed.Job:
    return embed.Job("random", source, str(Path(folder) / "out"), **given)


def measure_rate(source: str) -> None:
    """Prints pictures per second of the three, and the share."""
    config = recipes.load("model_s/pretrain")
    config.model.dtype, config.input.vocab = "float32", small_stage.VOCAB
    model = load(config)
    number = sources.open(source, "train", ("id",)).num_examples
    preprocess = pipeline.fill(config.input.preprocess_eval, config.input)
    pixels = np.zeros((BATCH, model.res, model.res, 3), np.uint8)

    def tower() -> None:
        for _ in range(-(-number // BATCH)):
            given = jax.device_put(pixels, model.encoders.batch_sharding)
            jax.block_until_ready(model.encoders.image(model.params, given))

    def decode() -> None:
        split = eval_batches.Split(source, "train", preprocess, BATCH, features=("id",))
        for batch in split.batches():
            assert len(batch[IMAGE]) == BATCH

    def command() -> None:
        with tempfile.TemporaryDirectory() as folder:
            embed.write(job(folder, source, write=("image",), batch_size=BATCH), lambda: model)

    halves = {"image tower": tower, "pipeline": decode}
    rates = [_rates({**halves, "embed": command}, number) for _ in range(ROUNDS + 1)][1:]
    for name in rates[0]:
        values = [turn[name] for turn in rates]
        print(f"{name}: {statistics.median(values):,.0f} pictures/s")
    shares = [turn["embed"] / min(turn[name] for name in halves) for turn in rates]
    low, high = min(shares), max(shares)
    print(f"embed / slower half: {statistics.median(shares):.2f} ({low:.2f} to {high:.2f})")


def _rates(parts: dict[str, Callable[[], None]], number: int) -> dict[str, float]:
    rates = {}
    for name, part in parts.items():
        begin = time.perf_counter()
        part()
        rates[name] = number / (time.perf_counter() - begin)
    return rates


def measure_memory(number: int) -> None:
    """Prints the most memory that the process held, in MiB."""
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (20, 24, 3), np.uint8) for _ in range(64)]
    jpegs = [tf.io.encode_jpeg(pixels).numpy() for pixels in noise]
    with tempfile.TemporaryDirectory() as folder:
        with tf.io.TFRecordWriter(f"{folder}/x.tfrecord") as writer:
            for index in range(number):
                values = {"jpg": jpegs[index % 64], "txt": f"picture {index}".encode()}
                feature = {
                    name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
                    for name, value in values.items()
                }
                example = tf.train.Example(features=tf.train.Features(feature=feature))
                writer.write(example.SerializeToString())
        begin = time.perf_counter()
        given = job(folder, f"tfrecord:{folder}/*.tfrecord", part_size=8_192, scores=True)
        embed.write(given, lambda: load(small_stage.config()))
        seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{number:,} pictures: {seconds:.0f} s, {peak:,} MiB at most")


if __name__ == "__main__":
    subject, argument = sys.argv[1:]
    if subject == "rate":
        measure_rate(argument)
    else:
        measure_memory(int(argument))

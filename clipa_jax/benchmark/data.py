"""Images per second and core of the input pipeline, op by op, with two references.

python tools/benchmark.py data --config=configs/model_h/pretrain.py \\
    --config.input.source="tfrecord:OUT/*.tfrecord"

`python -m clipa_jax.benchmark.photos` makes such files. All streams are measured in one run, in
turns and on one core, so that other load on the machine affects them alike. Times are processor
times of all threads; a ratio is the median of the ratios of the rounds.
"""

import clipa_jax.preprocess  # noqa: F401 (first, since it keeps TensorFlow quiet)

# isort: split
import importlib
import io
import os
import statistics
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from absl import flags, logging

from clipa_jax.benchmark import references
from clipa_jax.benchmark.clock import Stream
from clipa_jax.config import schedules
from clipa_jax.config.batch import IMAGE, TRAINING_KEYS
from clipa_jax.config.settings import Settings
from clipa_jax.data import feed, pipeline, profile
from clipa_jax.errors import ConfigError
from clipa_jax.preprocess import crop, decode, registry
from clipa_jax.runtime import cli

FLAGS = flags.FLAGS
_LANES = 4  # at most: the window is small, and lanes with few samples cost more each
_JITTER = 0.4  # strength, on all sides


@registry.op("decode_only")
def decode_only(*args: Any, **kwargs: Any) -> registry.Function:
    """The decoding of `decode_box` alone: returns the shape, so that the picture is decoded."""
    del args, kwargs

    def of_jpeg(ratio: int) -> Callable[[registry.Sample], tf.Tensor]:
        return lambda sample: tf.shape(crop.decode_reduced(sample, ratio))

    def other(sample: registry.Sample) -> tf.Tensor:
        return tf.shape(decode.any_format(sample["image"]))

    branches = [*(of_jpeg(ratio) for ratio, _ in crop.JPEG_BRANCHES), other]
    return crop.by_format(branches, tf.TensorSpec((3,), tf.int32))


def main(argv: list[str]) -> None:
    """Measures and logs the tables."""
    del argv
    _pin_to_one_core()
    if FLAGS.samples < FLAGS.batch:
        raise ConfigError(f"--samples={FLAGS.samples} is less than one batch of {FLAGS.batch}")
    config = schedules.split(FLAGS.config)[0]
    config.input.batch_size = FLAGS.batch
    # The window is at most a round, so that every round reads.
    config.input.lanes = min(config.input.lanes or _LANES, _LANES)
    window = config.input.shuffle_window or pipeline.default_window(config.input.lanes)
    config.input.shuffle_window = min(window, FLAGS.samples)
    inputs = Settings(config).input
    with tempfile.TemporaryDirectory() as folder:
        parts = _parts(inputs)
        pictures = _pictures(inputs, Path(folder))
        measure([*parts, *(stream for group in pictures.values() for stream in group)])
    logging.info("\n%s", "\n".join([*_table(parts), "", *_comparison(pictures)]))


def _pin_to_one_core() -> None:
    """Pins this process to one core, before TensorFlow starts a thread for each core."""
    if hasattr(os, "sched_setaffinity"):  # Linux
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def measure(streams: list[Stream]) -> None:
    """Measures all streams in turns; the first turn is warm-up."""
    steps = FLAGS.samples // FLAGS.batch
    for number in range(FLAGS.rounds + 1):
        for stream in streams:
            stream.run(steps if number else 2, FLAGS.batch)
        logging.info("round %d of %d", number, FLAGS.rounds)
    for stream in streams:
        del stream.cpu[0]


def _parts(inputs: Settings) -> list[Stream]:
    """Growing beginnings of the configured pipeline; the last one is all of it."""
    preprocess = pipeline.fill(inputs.preprocess, inputs)
    read = _data(inputs, preprocess, TRAINING_KEYS)
    number = FLAGS.batch // read.chunk
    records = read.chunks().map(lambda chunk: tf.strings.length(chunk["record"]))
    records = records.batch(number).prefetch(tf.data.AUTOTUNE)
    streams = [Stream(profile.READ, feed.Feed(records))]
    for name, prefix in profile.prefixes(preprocess).items():
        if name == "decode_box":
            alone = "|decode_only(".join(prefix.rsplit("|decode_box(", 1))
            streams.append(Stream("decode_only", _data(inputs, alone, None).start()))
        streams.append(Stream(name, _data(inputs, prefix, None).start()))
    return [*streams, Stream("batch", _data(inputs, preprocess, TRAINING_KEYS).start())]


def _pictures(inputs: Settings, folder: Path) -> dict[str, list[Stream]]:
    """Pictures alone, without and with color jitter: our pipeline, then the references."""
    res = inputs.res
    data = _data(inputs, "", None)
    source = data.source
    records = [chunk["record"].numpy() for chunk in data.chunks().unbatch().take(FLAGS.samples)]
    tar = folder / "pictures.tar"
    write_tar(tar, [source.parse(record)["image"].numpy() for record in records])
    groups = {}
    for title, strength in (("without jitter", 0.0), ("with jitter", _JITTER)):
        ours = f"decode|inception_crop({res}, area_min=40)" + f"|jitter({strength})" * bool(
            strength
        )
        groups[title] = [
            Stream("ours", _data(inputs, ours, (IMAGE,)).start()),
            Stream(
                "CLIPA chain",
                references.clipa_chain(source, FLAGS.batch, inputs.shuffle_window, res, strength),
            ),
        ]
        peer = _open_clip(tar, res, strength)
        if peer is not None:
            groups[title].append(Stream("open_clip", peer))
    return groups


def _open_clip(tar: Path, res: int, strength: float) -> Iterator[Any] | None:
    try:
        module = importlib.import_module("clipa_jax.benchmark.open_clip_loader")
    except (ImportError, RuntimeError) as error:  # the latter: torchvision for another PyTorch
        logging.info("open_clip's loader is left out: %s", error)
        return None
    return module.loader(tar, FLAGS.batch, res, strength)


def _data(inputs: Settings, preprocess: str, keep: Sequence[str] | None) -> pipeline.TrainData:
    return pipeline.train_data(inputs, seed=0, preprocess=preprocess, keep=keep)


def write_tar(path: Path, jpegs: list[bytes]) -> None:
    """Writes pictures in the layout of webdataset."""
    with tarfile.open(path, "w") as tar:
        for number, jpeg in enumerate(jpegs):
            info = tarfile.TarInfo(f"{number:09d}.jpg")
            info.size = len(jpeg)
            tar.addfile(info, io.BytesIO(jpeg))


def _table(parts: list[Stream]) -> list[str]:
    lines = [f"{'':28} us a sample   of it this stage   images/s on one core"]
    before = 0.0
    for part in parts:
        cpu = statistics.median(part.cpu)
        lines.append(
            f"{'+ ' * (part is not parts[0]) + part.name:28} {cpu * 1e6:11,.0f} "
            f"{(cpu - before) * 1e6:18,.0f} {1 / cpu:22,.0f}"
        )
        before = cpu
    return lines


def _comparison(pictures: dict[str, list[Stream]]) -> list[str]:
    lines = [
        f"{'pictures alone':28} us a sample   images/s on one core   times ours (of each round)"
    ]
    for title, streams in pictures.items():
        ours = streams[0]
        for stream in streams:
            cpu = statistics.median(stream.cpu)
            ratios = [other / own for other, own in zip(stream.cpu, ours.cpu, strict=True)]
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            lines.append(
                f"{stream.name + ', ' + title:28} {cpu * 1e6:11,.0f} {1 / cpu:22,.0f}   "
                + ("1" if stream is ours else spread)
            )
    return lines


def start() -> None:
    """Runs the command line."""
    cli.define_config()
    whole = "Samples of each round and line: whole epochs, if possible."
    flags.DEFINE_integer("samples", 4_096, whole)
    flags.DEFINE_integer("rounds", 7, "Measurements of each line.")
    flags.DEFINE_integer("batch", 128, "Batch size; a small one reads less ahead.")
    cli.run(main)

"""Writes any split in the layout of CLIP_benchmark, so that it and others can read it."""

import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from clipa_jax.data import reading
from clipa_jax.data.sources import Source, clip_benchmark
from clipa_jax.errors import DataError
from clipa_jax.preprocess import registry

_SUFFIXES = ((b"\xff\xd8", "jpg"), (b"\x89PNG", "png"), (b"RIFF", "webp"))


def write(
    source: Source,
    folder: Path,
    split: str,
    *,
    kind: str,
    label: str = "",
    preprocess: str = "",
    templates: Sequence[str] = (),
    shard_size: int = 10_000,
) -> int:
    """Writes the samples of a source in their order, and returns their number.

    The source is opened with the feature `label`, which holds the class; retrieval has none. The
    folder gets the split and the files about it. `kind` is classification, multilabel or retrieval.
    Pictures are copied, or changed by `preprocess` and stored as PNG. `templates` are sentences
    with `{}` for a class's name, and a tar has `shard_size` samples.
    """
    legal = (clip_benchmark.CLASSIFICATION, clip_benchmark.MULTILABEL, clip_benchmark.RETRIEVAL)
    if kind not in legal:
        raise DataError(f"kind={kind!r}; legal: {', '.join(legal)}")
    names = source.class_names(label) if label else None
    if kind == clip_benchmark.RETRIEVAL and not source.has_captions:
        raise DataError(f"{source.spec}: no captions to write")
    if kind != clip_benchmark.RETRIEVAL and not names:
        raise DataError(f"{source.spec}: no names for the classes of {label!r}")
    place = folder / split
    place.mkdir(parents=True, exist_ok=True)
    count = shards = 0
    members = _members(source, kind, label, len(names or ()), preprocess)
    while count < source.num_examples:
        with tarfile.open(place / f"{shards}.tar", "w") as tar:
            for _ in range(min(shard_size, source.num_examples - count)):
                _add(tar, f"s{count:07d}", next(members))
                count += 1
        shards += 1
    _text(place / clip_benchmark.SHARDS, [str(shards)])
    _text(folder / clip_benchmark.TYPE, [kind])
    if kind != clip_benchmark.RETRIEVAL:
        _text(folder / clip_benchmark.CLASSES, names or ())
        sentences = [text.replace("{}", clip_benchmark.PLACE) for text in templates]
        _text(folder / clip_benchmark.TEMPLATES, sentences)
    return count


def _add(tar: tarfile.TarFile, name: str, sample: dict[str, bytes]) -> None:
    """Adds the files of one sample."""
    for suffix, content in sample.items():
        info = tarfile.TarInfo(f"{name}.{suffix}")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))


def _members(
    source: Source, kind: str, label: str, classes: int, preprocess: str
) -> Iterator[dict[str, bytes]]:
    """The files of each sample, by suffix."""
    ops = registry.build(preprocess) if preprocess else None
    features = (label,) if label else ()

    def ready(record: tf.Tensor) -> dict[str, tf.Tensor]:
        sample = source.parse(record, features)
        return sample | {"image": tf.io.encode_png(ops(sample)["image"])} if ops else sample

    samples = reading.everything(source).map(ready, num_parallel_calls=tf.data.AUTOTUNE)
    for number, sample in enumerate(samples.as_numpy_iterator()):
        image = sample["image"]
        suffix = next((name for begin, name in _SUFFIXES if image.startswith(begin)), None)
        if suffix is None:
            raise DataError(
                f"{source.spec}: the picture of sample {number} is no JPEG, PNG or WebP; give "
                f"preprocess, e.g. decode"
            )
        yield {suffix: image, **_label(sample, kind, label, classes)}


def _label(sample: dict, kind: str, label: str, classes: int) -> dict[str, bytes]:
    if kind == clip_benchmark.RETRIEVAL:
        texts = [text.decode("utf8", "replace") for text in sample["captions"]]
        return {"txt": "\n".join(" ".join(text.splitlines()) for text in texts).encode()}
    if kind == clip_benchmark.CLASSIFICATION:
        return {clip_benchmark.LABEL: b"%d" % sample[label]}
    present_C = np.zeros(classes, np.float32)
    present_C[sample[label]] = 1
    buffer = io.BytesIO()
    np.save(buffer, present_C, allow_pickle=False)
    return {clip_benchmark.LABELS: buffer.getvalue()}


def _text(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

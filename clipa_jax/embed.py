"""Embeds the pictures and captions of a source, in the layout that clip-retrieval reads.

python -m clipa_jax.embed --checkpoint=runs/demo --source=folder:pictures --out=embeddings

Run the same command again after an interruption: it continues with the first missing part. On
several processes run it on each; process 0 writes. See docs/embeddings.md.
"""

import collections
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from clipa_jax import loading
from clipa_jax.config import schema
from clipa_jax.data import bad_samples, embeddings, eval_batches, map_chunk, pipeline
from clipa_jax.errors import ConfigError, DataError, unknown
from clipa_jax.evaluation import checkpoint
from clipa_jax.evaluators import embed
from clipa_jax.runtime import cli, distributed, fingerprint
from clipa_jax.runtime.progress import Progress
from clipa_jax.weights import open_weights

KINDS = {"image": embeddings.IMAGE, "text": embeddings.TEXT}


@dataclass(frozen=True)
class Job:
    """The flags."""

    checkpoint: str
    source: str
    out: str
    split: str = "train"
    write: tuple[str, ...] | list[str] = tuple(KINDS)
    scores: bool = False
    dtype: str = "float16"
    batch_size: int = 256
    part_size: int = 65_536
    numerics: str = ""


def main(argv: list[str]) -> None:
    """Embeds what is not yet embedded."""
    del argv
    cli.start_jax(flags.FLAGS.config)
    values: dict[str, Any] = {name: flags.FLAGS[name].value for name in Job.__dataclass_fields__}
    run(Job(**values), flags.FLAGS.config)


def run(job: Job, config: ConfigDict) -> None:
    """Embeds what is not yet embedded; on several processes all call it."""
    write(job, lambda: checkpoint.load(open_weights(job.checkpoint, job.numerics), config).model)


def write(job: Job, load: Callable[[], loading.Model]) -> None:
    """Embeds what is not yet embedded with a model, which is loaded once the source is open."""
    source = eval_batches.listed(job.source, job.split, ("id", "captions"))
    kinds = _kinds(job, source.has_captions)
    model = load()
    batch_size = embed.round_up(job.batch_size, model.encoders.batch_sharding)
    part_size, total = -(-job.part_size // batch_size) * batch_size, source.num_examples
    preprocess = pipeline.fill(model.config.input.preprocess_eval, model.config.input)
    about = {
        "checkpoint": job.checkpoint,
        "weights": f"{fingerprint.of(model.params):08x}",
        "preprocess": preprocess,
        "source": job.source,
        "split": job.split,
        "samples": total,
        "part_size": part_size,
        "kinds": kinds,
        "scores": job.scores,
        "dtype": job.dtype,
    }
    folder = embeddings.Folder(job.out, about, -(-total // part_size))
    start = distributed.from_first(min(folder.finished * part_size, total))
    features = ("id", "captions") if source.has_captions else ("id",)
    split = eval_batches.Split(job.source, job.split, preprocess, batch_size, features)
    data = split.batches(start=start, reasons=True)
    reasons: collections.Counter[str] = collections.Counter()
    with Progress("embed", total, start=start, shown=distributed.first()) as progress:
        part: list[embed.Embedded] = []
        for batch in _embedded(model, data, start, reasons):
            part.append(batch)
            progress.update(min(progress.count + batch_size, total))
            if progress.count % part_size == 0 or progress.count == total:
                rows = _rows(model, job, kinds, embed.concatenated(part), batch_size)
                if distributed.first():
                    folder.write(*rows, dict(reasons))
                part = []
                reasons.clear()
    if distributed.first():
        skipped = embeddings.skipped(job.out)
        lost = ", ".join(f"{count:,} {reason}" for reason, count in skipped.items())
        logging.info("%s: %s samples, skipped: %s", job.out, f"{total:,}", lost or "none")


def _kinds(job: Job, has_captions: bool) -> list[str]:
    """The kinds of output to write; raises `UserError` if the source lacks one."""
    for kind in job.write:
        if kind not in KINDS:
            raise ConfigError(unknown("--write", kind, KINDS))
    kinds = [kind for kind in KINDS if kind in job.write and (kind == "image" or has_captions)]
    if (job.scores and not has_captions) or not (kinds or job.scores):
        raise DataError(f"{job.source} has no captions to embed")
    return kinds


def _embedded(
    model: loading.Model,
    batches: Iterator[dict[str, Any]],
    start: int,
    reasons: collections.Counter[str],
) -> Iterator[embed.Embedded]:
    """The pictures of each batch; counts the bad samples of all processes by reason."""
    waiting: list[collections.Counter[str]] = []  # of batches whose embeddings are not there yet

    def counted() -> Iterator[dict[str, Any]]:
        for batch in batches:
            number_B = batch.pop(map_chunk.REASON)
            waiting.append(collections.Counter(bad_samples.REASONS[n] for n in number_B if n))
            yield batch

    for done in embed.images(model.encoders, model.params, counted()):
        for share in distributed.from_all(waiting.pop(0)):
            reasons.update(share)
        yield embed.Embedded(done.image_NE, done.features, done.position_N + start)


def _rows(
    model: loading.Model, job: Job, kinds: list[str], part: embed.Embedded, batch_size: int
) -> tuple[Mapping[str, np.ndarray], Mapping[str, Any]]:
    """The arrays and the metadata of a part; all processes embed its captions."""
    arrays: dict[str, np.ndarray] = {"image": part.image_NE}
    columns: dict[str, Any] = {
        embeddings.KEY: part.features["id"],
        embeddings.POSITION: part.position_N,
    }
    if "captions" in part.features:
        captions = [texts[0] if texts else "" for texts in part.features["captions"]]
        columns[embeddings.CAPTION] = captions
        if "text" in kinds or job.scores:
            arrays["text"] = _texts(model, captions, part.image_NE.shape[1], batch_size)
    if job.scores:
        columns[embeddings.SIMILARITY] = (arrays["image"] * arrays["text"]).sum(axis=1)
    return {KINDS[kind]: arrays[kind].astype(job.dtype) for kind in kinds}, columns


def _texts(model: loading.Model, captions: list[str], width: int, batch_size: int) -> np.ndarray:
    """Embeddings of captions, float32 (N, E); zeros for samples without one."""
    z_NE = np.zeros((len(captions), width), np.float32)
    (row_X,) = np.nonzero([bool(caption) for caption in captions])
    if len(row_X):
        tokens = model.tokenize([captions[row] for row in row_X])
        towers = model.encoders
        parts = embed.rows(towers.text, model.params, tokens, towers.batch_sharding, batch_size)
        z_NE[row_X] = np.concatenate([z_BE for _, z_BE in parts])
    return z_NE


def start() -> None:
    """Runs the command line, whose flags are not defined for those who only import this module."""
    flags.DEFINE_string("checkpoint", None, "As clipa_jax.load takes it.", required=True)
    flags.DEFINE_string("numerics", "", "Of an open_clip model; see docs/released_weights.md.")
    flags.DEFINE_string("source", None, "As config.input.source has it.", required=True)
    flags.DEFINE_string("split", "train", "Split of the source, where it has splits.")
    cli.writes_to_disk(flags.DEFINE_string("out", None, "Folder of the embeddings.", required=True))
    flags.DEFINE_list("write", list(KINDS), "Embeddings to keep: image, text or both.")
    flags.DEFINE_bool("scores", False, "Add the similarity of picture and caption.")
    flags.DEFINE_enum("dtype", "float16", ["float16", "float32"], "Of the files.")
    flags.DEFINE_integer("batch_size", 256, "On all devices together.", lower_bound=1)
    flags.DEFINE_integer(
        "part_size", 65_536, "Samples of a file; rounded up to batches.", lower_bound=1
    )
    config_flags.DEFINE_config_dict("config", schema.evaluation(), lock_config=True)
    cli.run(main)


if __name__ == "__main__":
    start()

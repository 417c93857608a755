"""A dataset from start to end: planned, made, checked, and then renamed to its final name.

Everything is made in `OUT.unfinished`, beside the final folder. Its `plan.json` records the
input and options; a run that finds the folder continues if these are the same. When all files
are written and have been read back, the dataset is moved to OUT.
"""

from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds

from clipa_jax.data import sources
from clipa_jax.data.sources.base import Source
from clipa_jax.errors import DataError
from clipa_jax.evaluators import catalogue
from clipa_jax.prepare import flow, near_duplicates, partitions, records, report
from clipa_jax.prepare.counters import Counters
from clipa_jax.prepare.layout import RECORD_BYTES, Layout
from clipa_jax.prepare.options import DIRECT, Options
from clipa_jax.prepare.partitions import Partition
from clipa_jax.prepare.samples import SampleReader
from clipa_jax.runtime import files, progress, storage

UNFINISHED, PLAN, INFO, REPORT = ".unfinished", "plan.json", "dataset_info.json", "report.json"
FORM = 1  # version of the files in an unfinished folder


def make(
    options: Options, out: str, *, runner: str = DIRECT, arguments: list[str] | None = None
) -> dict[str, Any]:
    """Makes the dataset `out`, or continues an unfinished one; returns its report.json.

    `DataError` if the input or the options cannot be used, `out` exists, an unfinished folder
    belongs to another plan, or no sample is kept. Runner and arguments as in `flow.run`.
    """
    out = out.rstrip("/")
    folder = out + UNFINISHED
    source = sources.open(options.source, options.split, options.keep)
    if isinstance(source, sources.Mixture):
        raise DataError(
            f"{source.spec}: make a dataset of each source by itself, and mix them in the config"
        )
    excluded = [_evaluation_set(name, options.exclude_root) for name in options.exclude]
    work = partitions.divide(source)
    features = records.features(source, SampleReader(source, features=options.keep).spec)
    plan, plan_path = _plan(options, source), storage.join(folder, PLAN)
    exist = all(storage.exists(path) for path in (storage.join(out, INFO), plan_path))
    if exist and files.read_json(plan_path) == plan:  # killed after the rename
        storage.remove(folder, folder=True)
        return files.read_json(storage.join(out, REPORT))
    _check_out(out)
    _check_plan(plan_path, plan)
    job = flow.Job(
        options=options,
        total=source.num_examples,
        partitions=storage.join(folder, "pieces"),
        shards=storage.join(folder, "dataset"),
        buckets=storage.join(folder, "found"),
    )
    for path in (job.partitions, job.shards, job.buckets):
        storage.make_folder(path)
    if excluded:
        near_duplicates.write(excluded, job.partitions)
    stages = {"reading": lambda: _read(job, work), "writing": lambda: _written(job)}
    with progress.poll(stages, every_seconds=30 if storage.scheme(out) else 2):
        counters = flow.run(job, work, runner, arguments or [])
    layout = Layout.plan(options, counters)
    summary = report.summary(options, source, counters, layout)
    if not layout.kept:
        raise DataError(
            f"none of the {source.num_examples} samples of {options.source} is kept:\n"
            + report.table(summary)
        )
    for name in set(storage.names(job.shards)) - set(layout.file_names):
        storage.remove(storage.join(job.shards, name))  # left by a killed run
    _write_metadata(job, layout, features, counters[RECORD_BYTES])
    _check(job.shards, layout)
    files.write_json(storage.join(job.shards, REPORT), summary)
    publish(job.shards, out)
    storage.remove(folder, folder=True)
    return summary


def _evaluation_set(name: str, root: str) -> tuple[str, str]:
    """(source, split) of a name of the catalogue, or of `SOURCE@SPLIT`.

    Raises `UserError` if it is unknown or not there.
    """
    if ":" not in name:
        return catalogue.locate(name, root)
    source, _, split = name.rpartition("@")
    return (source, split) if source else (name, "train")


def _check_out(out: str) -> None:
    is_dataset = storage.exists(storage.join(out, INFO))
    if is_dataset or (not storage.scheme(out) and storage.exists(out)):
        kind = "a dataset" if is_dataset else "a file or folder"
        raise DataError(f"{out}: {kind} exists; delete it or choose another folder")


def _plan(options: Options, source: Source) -> dict[str, Any]:
    """Everything that the files of an unfinished folder depend on."""
    paths = list(dict.fromkeys(shard.path for shard in source.shards))
    stamps = storage.present(paths)
    return {
        "form": FORM,
        "piece": partitions.SIZE,
        "options": options.as_dict(),
        "shards": [[shard.path, shard.start, shard.length] for shard in source.shards],
        "files": [[path, stamps.get(path)] for path in paths],
    }


def _check_plan(path: str, plan: dict[str, Any]) -> None:
    """Writes the plan, or raises `DataError` if a different one exists."""
    folder = path.rpartition("/")[0]
    if not storage.exists(path):
        storage.make_folder(folder)
        files.write_json(path, plan)
        return
    before = files.read_json(path)
    given, old = plan["options"], before.get("options", {})
    before["options"] = given | old  # an older version did not have all options
    if before == plan:
        return
    other = [f"{key}={given[key]} (was {old[key]})" for key in old if given.get(key) != old[key]]
    raise DataError(
        f"{folder} belongs to a run with other {'options' if other else 'input files'}"
        f"{': ' if other else ''}{', '.join(other)}; delete it to start again, or continue with "
        f"the input and options of that run"
    )


def _read(job: flow.Job, work: list[Partition]) -> tuple[int, int]:
    """Samples read so far, and all of them."""
    done = set(storage.names(job.partitions))
    read = [p.length for p in work if partitions.index_path("", p.number) in done]
    return sum(read), job.total


def _written(job: flow.Job) -> tuple[int, int]:
    """Samples written so far, and all that will be; 0 of 0 before that is known."""
    if not storage.exists(job.counters):
        return 0, 0
    layout = Layout.plan(job.options, Counters.from_dict(files.read_json(job.counters)))
    done = set(storage.names(job.shards))
    shards = zip(layout.lengths, layout.file_names, strict=True)
    return sum(length for length, name in shards if name in done), layout.kept


def _write_metadata(
    job: flow.Job, layout: Layout, features: dict[str, Any], record_bytes: int
) -> None:
    """Writes the metadata of TFDS."""
    options = job.options
    split_infos = []
    for split in layout.splits:
        template = tfds.core.ShardedFileTemplate(
            data_dir=job.shards,
            template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            dataset_name=options.name,
            split=split.name,
            filetype_suffix=options.file_format,
        )
        split_infos.append(
            tfds.core.SplitInfo(
                name=split.name,
                shard_lengths=split.lengths,
                num_bytes=record_bytes * split.samples // layout.kept,
                filename_template=template,
            )
        )
    tfds.folder_dataset.write_metadata(
        data_dir=job.shards,
        features=tfds.features.FeaturesDict(features),
        split_infos=split_infos,
        version=options.version,
        check_data=False,  # it cannot read ArrayRecord; see `_check`
        description=f"Made by tools/prepare_data.py from {options.source}; see {REPORT}.",
    )


def _check(folder: str, layout: Layout) -> None:
    """Raises `DataError` unless TFDS finds every split complete; reads a sample of each."""
    builder = tfds.builder_from_directory(folder)
    for expected in layout.splits:
        split = builder.info.splits[expected.name]
        if split.num_examples != expected.samples:
            raise DataError(
                f"{folder}, split {expected.name}: {split.num_examples} samples, expected "
                f"{expected.samples}"
            )
        paths = [str(path) for path in split.filepaths]
        missing = next(iter(set(paths) - set(storage.present(paths))), None)
        if missing:
            raise DataError(f"{missing} is missing; start again to make it")
        if layout.file_format == "tfrecord":
            try:
                next(iter(tfds.as_numpy(builder.as_dataset(split=f"{expected.name}[:1]"))))
            except tf.errors.OpError as error:
                raise DataError(
                    f"{folder} cannot be read back by TensorFlow, whose own client reads gs:// in "
                    f"training: {error.message}"
                ) from None
        elif not storage.scheme(folder):  # ArrayRecord opens no other files
            builder.as_data_source(split=expected.name)[0]


def publish(folder: str, out: str) -> None:
    """Renames the dataset; where folders cannot be renamed, file by file, the metadata last."""
    if not storage.scheme(out):
        storage.rename(folder, out)
        return
    storage.make_folder(out)
    for name in sorted(storage.names(folder), key=lambda name: (name == INFO, name)):
        storage.rename(storage.join(folder, name), storage.join(out, name))

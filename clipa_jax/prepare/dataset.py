"""A dataset from start to end: planned, made, checked, and then given its name.

Everything is made in `OUT.unfinished`, beside where the dataset will be. Its `plan.json`
says of which input and options the files are; a run that finds the folder goes on with it if
these are the same. When all is there and has been read back, the dataset is moved to OUT.
"""

import contextlib
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds

from clipa_jax.data import sources
from clipa_jax.data.sources.base import Source
from clipa_jax.errors import DataError
from clipa_jax.prepare import files, flow, partitions, report, shards, storing
from clipa_jax.prepare.options import Options
from clipa_jax.prepare.partitions import Piece
from clipa_jax.prepare.samples import Looker
from clipa_jax.runtime import progress

UNFINISHED, PLAN, INFO, REPORT = ".unfinished", "plan.json", "dataset_info.json", "report.json"
FORM = 1  # of the files in an unfinished folder; to be counted up when it changes


def make(
    options: Options, out: str, *, runner: str = flow.DIRECT, arguments: list[str] | None = None
) -> dict[str, Any]:
    """Makes a dataset, or goes on making it.

    Args:
      options: what it is made from and how.
      out: the folder that it will be; must not be there yet.
      runner: see `flow.run`.
      arguments: likewise.

    Returns:
      The report that is in the dataset as report.json.

    Raises:
      DataError: the input or the options cannot be used; `out` is there already; an
        unfinished folder is of another plan; nothing is left of the input.
    """
    out = out.rstrip("/")
    folder = out + UNFINISHED
    source = sources.open(options.source, options.split, options.keep)
    if isinstance(source, sources.Mixture):
        raise DataError(
            f"{source.spec}: make a dataset of each source by itself, and mix them in the config"
        )
    work = partitions.cut(source)
    features = storing.features(source, Looker(source, features=options.keep).spec)
    plan, planned = _plan(options, source), files.join(folder, PLAN)
    there = [tf.io.gfile.exists(path) for path in (files.join(out, INFO), planned)]
    if all(there) and files.read_json(planned) == plan:  # killed after all was done
        tf.io.gfile.rmtree(folder)
        return files.read_json(files.join(out, REPORT))
    _check_out(out)
    _check_plan(planned, plan)
    found, read, into = (files.join(folder, name) for name in ("found", "pieces", "dataset"))
    for made in (found, read, into):
        tf.io.gfile.makedirs(made)
    stages = {
        "reading": lambda: _read(read, work),
        "writing": lambda: _written(found, into, options),
    }
    with progress.poll(stages, every_seconds=2 if files.is_local(out) else 30):
        tally = flow.run(
            options, work, source.num_examples, (read, into, found), runner, arguments or []
        )
    kept, num_shards = flow.sizes(options, tally)
    lengths = shards.lengths(kept, num_shards)
    summary = report.summary(options, source, tally, lengths)
    if not kept:
        raise DataError(
            f"nothing is left of the {source.num_examples} samples of {options.source}:\n"
            + report.table(summary)
        )
    _complete(into, options, features, lengths, tally[flow.RECORD_BYTES])
    files.write_json(files.join(into, REPORT), summary)
    publish(into, out)
    tf.io.gfile.rmtree(folder)
    return summary


def _check_out(out: str) -> None:
    there = tf.io.gfile.exists(files.join(out, INFO))
    if there or (files.is_local(out) and tf.io.gfile.exists(out)):
        what = "a dataset is" if there else "something is"
        raise DataError(f"{out}: {what} there already; delete it or choose another folder")


def _plan(options: Options, source: Source) -> dict[str, Any]:
    """What the files of an unfinished folder depend on."""
    stamps: dict[str, list[int] | None] = {}
    for shard in source.shards:
        if shard.path not in stamps:
            stamps[shard.path] = _stamp(shard.path)
    return {
        "form": FORM,
        "piece": partitions.SIZE,
        "options": options.as_dict(),
        "shards": [[shard.path, shard.start, shard.length] for shard in source.shards],
        "files": [[path, stamp] for path, stamp in stamps.items()],
    }


def _stamp(path: str) -> list[int] | None:
    with contextlib.suppress(tf.errors.OpError):
        stat = tf.io.gfile.stat(path)
        return [int(stat.length), int(stat.mtime_nsec)]
    return None


def _check_plan(path: str, plan: dict[str, Any]) -> None:
    """Writes the plan, or raises `DataError` if another one is there."""
    if not tf.io.gfile.exists(path):
        tf.io.gfile.makedirs(path.rpartition("/")[0])
        files.write_json(path, plan)
        return
    before, folder = files.read_json(path), path.rpartition("/")[0]
    if before == plan:
        return
    given, was = plan["options"], before.get("options", {})
    other = [f"{key}={given[key]} (was {was.get(key)})" for key in given if given[key] != was[key]]
    raise DataError(
        f"{folder} is of a run with other {'options' if other else 'input files'}"
        f"{': ' if other else ''}{', '.join(other)}; delete it to start anew, or go on with what "
        f"it was begun with"
    )


def _read(folder: str, work: list[Piece]) -> tuple[int, int]:
    """Samples read, and all of them."""
    done = {name for name in tf.io.gfile.listdir(folder) if name.endswith(".npz")}
    lengths = [piece.length for piece in work]
    names = [partitions.facts_path("", piece.number) for piece in work]
    return sum(n for n, name in zip(lengths, names, strict=True) if name in done), sum(lengths)


def _written(found: str, into: str, options: Options) -> tuple[int, int]:
    """Samples written, and all that will be; 0 of 0 while that is not known."""
    path = files.join(found, flow.TALLY)
    if not tf.io.gfile.exists(path):
        return 0, 0
    kept, num_shards = flow.sizes(options, flow.Tally.from_dict(files.read_json(path)))
    there = set(tf.io.gfile.listdir(into))
    lengths = shards.lengths(kept, num_shards)
    names = [shards.file_name(options, shard, num_shards) for shard in range(num_shards)]
    return sum(n for n, name in zip(lengths, names, strict=True) if name in there), kept


def _tidy(folder: str, options: Options, num_shards: int) -> None:
    """Removes what a killed run left half-written, or wrote behind the shards."""
    names = {shards.file_name(options, shard, num_shards) for shard in range(num_shards)}
    for name in set(tf.io.gfile.listdir(folder)) - names:
        tf.io.gfile.remove(files.join(folder, name))


def _complete(
    folder: str, options: Options, features: dict[str, Any], lengths: list[int], size: int
) -> None:
    """Makes the folder with the shards a dataset, and checks that it is one."""
    _tidy(folder, options, len(lengths))
    _describe(folder, options, features, lengths, size)
    _check(folder, options, sum(lengths))


def _describe(
    folder: str, options: Options, features: dict[str, Any], lengths: list[int], size: int
) -> None:
    """Writes the metadata by which TFDS knows the dataset."""
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder,
        template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        dataset_name=options.name,
        split=options.into,
        filetype_suffix=options.file_format,
    )
    split = tfds.core.SplitInfo(
        name=options.into, shard_lengths=lengths, num_bytes=size, filename_template=template
    )
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=tfds.features.FeaturesDict(features),
        split_infos=[split],
        version=options.version,
        check_data=False,  # it cannot read ArrayRecord; see `_check`
        description=f"Made by tools/prepare_data.py from {options.source}; see {REPORT}.",
    )


def _check(folder: str, options: Options, kept: int) -> None:
    """Raises `DataError` unless TFDS finds the dataset complete; lets it read a sample."""
    builder = tfds.builder_from_directory(folder)
    split = builder.info.splits[options.into]
    if split.num_examples != kept:
        raise DataError(f"{folder} has {split.num_examples} samples, expected {kept}")
    for path in split.filepaths:
        if not tf.io.gfile.exists(str(path)):
            raise DataError(f"{path} is missing; start again to make it")
    if options.file_format == "tfrecord":
        next(iter(tfds.as_numpy(builder.as_dataset(split=f"{options.into}[:1]"))))
    elif files.is_local(folder):  # ArrayRecord knows no other files
        builder.as_data_source(split=options.into)[0]


def publish(folder: str, out: str) -> None:
    """Gives the dataset its name: at once, or, where folders cannot be renamed, its metadata
    last, without which it is none."""
    if files.is_local(out):
        tf.io.gfile.rename(folder, out)
        return
    tf.io.gfile.makedirs(out)
    for name in sorted(tf.io.gfile.listdir(folder), key=lambda name: (name == INFO, name)):
        tf.io.gfile.rename(files.join(folder, name), files.join(out, name), overwrite=True)

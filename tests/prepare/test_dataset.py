"""Datasets made from a messy input, interrupted, and read by TFDS and the pipeline."""

import collections
import contextlib
import hashlib
import io
import itertools
import json
import re
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from ml_collections import ConfigDict
from PIL import Image
from pyarrow import parquet

from clipa_jax.config.settings import Settings
from clipa_jax.data import pipeline
from clipa_jax.errors import DataError, UserError
from clipa_jax.prepare import dataset, index, report, shards
from clipa_jax.prepare.options import Options, parse_share
from clipa_jax.runtime import storage
from tests.prepare.conftest import encoded, example, photo, write

ROOT = Path(__file__).parents[2]
FILTERS = {"min_side": 10, "max_aspect": 4.0, "min_chars": 3}


def options(messy, **changes) -> Options:
    return Options(**{"source": messy.source, "num_shards": 4, **FILTERS, **changes})


def digests(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def samples(folder: Path, split: str = "train") -> list[dict]:
    """What TFDS reads, in the order of the files."""
    builder = tfds.builder_from_directory(str(folder))
    decoders = {"image": tfds.decode.SkipDecoding()}
    read = tfds.ReadConfig(interleave_cycle_length=1)
    return list(tfds.as_numpy(builder.as_dataset(split=split, decoders=decoders, read_config=read)))


def ids(folder: Path) -> list[str]:
    return [sample["id"].decode() for sample in samples(folder)]


@pytest.fixture(scope="module")
def made(messy, tmp_path_factory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("made") / "pairs" / "1.0.0"
    return out, dataset.make(options(messy), str(out))


def test_every_fault_is_counted_under_its_name(messy, made):
    out, summary = made
    dropped = {reason: entry["samples"] for reason, entry in summary["dropped"].items()}
    assert dropped == {reason: len(names) for reason, names in messy.bad.items()}
    assert summary["kept"] == len(messy.good)
    assert summary["kept"] + sum(dropped.values()) == summary["input"] == messy.total
    assert json.loads((out / "report.json").read_text()) == summary
    assert summary["images_encoded_anew"] == 1  # the GIF
    folder = messy.source.removeprefix("tfrecord:").rpartition("/")[0]
    assert summary["dropped"]["unreadable"]["first"] == [f"{folder}/00002.tfrecord sample 19"]
    text = report.table(summary)
    assert re.search(r"dropped: duplicate +2 +4.44 % +\S+/00002.tfrecord sample 17\n", text)
    assert re.search(r"kept +35 +77.78 %$", text)


def test_every_good_sample_is_kept_once_in_shuffled_even_shards(messy, made):
    out, _ = made
    order = ids(out)
    assert sorted(order) == sorted(messy.good)
    assert order != messy.good
    lengths = tfds.builder_from_directory(str(out)).info.splits["train"].shard_lengths
    assert sorted(lengths) == [8, 9, 9, 9]
    assert not Path(f"{out}{dataset.UNFINISHED}").exists()
    assert not [name for name in digests(out) if ".part" in name]


def test_pictures_and_captions_are_unchanged(messy, made):
    out, _ = made
    by_id = {sample["id"].decode(): sample for sample in samples(out)}
    paths = sorted(tf.io.gfile.glob(messy.source.split(":")[1]))
    for record in tf.data.TFRecordDataset(paths).take(len(messy.good)):
        fields = tf.train.Example.FromString(record.numpy()).features.feature
        sample = by_id[fields["key"].bytes_list.value[0].decode()]
        if sample["id"] != b"gif":
            assert sample["image"] == fields["jpg"].bytes_list.value[0]
        assert sample["captions"].tolist() == list(fields["txt"].bytes_list.value)
    assert tf.io.is_jpeg(by_id["gif"]["image"])


def test_tfds_decodes_every_picture(made):
    out, summary = made
    samples = tfds.builder_from_directory(str(out)).as_dataset(split="train")
    shapes = [sample["image"].shape for sample in tfds.as_numpy(samples)]
    assert len(shapes) == summary["kept"] and {shape[2] for shape in shapes} == {3}


def test_training_reads_it_without_a_skipped_sample(made):
    out, summary = made
    config = ConfigDict(
        {
            "source": f"tfds:{out}",
            "split": "train",
            "batch_size": 7,
            "preprocess": "decode|resize(16)",
            "cache": "none",
            "order": "auto",
            "max_pixels": 1_000_000,
            "lanes": 1,
            "shuffle_window": 16,
            "max_skip_percent": 0.0,
            "caption": None,
            "clean": "none",
        }
    )
    data = pipeline.train(Settings(config, "config.input"), seed=0)
    assert data.num_examples == summary["kept"] == 35
    batches = list(itertools.islice(data.start(), 5))
    assert data.skipped() == {}
    assert {batch["image"].shape for batch, _ in batches} == {(7, 16, 16, 3)}


def test_formats_with_the_same_content_become_the_same_files(tmp_path):
    """img2dataset's three, whose ids are its keys; a folder's are the names of its files."""
    rows = [(f"{n:09d}", encoded(photo(n)), f"a picture of number {n}") for n in range(12)]
    folder = tmp_path / "folder"
    folder.mkdir()
    write(tmp_path / "a.tfrecord", [example(jpg=i, txt=text, key=key) for key, i, text in rows])
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for key, image, text in rows:
            for name, content in ((f"{key}.jpg", image), (f"{key}.txt", text.encode())):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
                (folder / name).write_bytes(content)
    columns = dict(zip(("key", "jpg", "caption"), map(list, zip(*rows, strict=True)), strict=True))
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    found = {}
    for kind, where in (
        ("tfrecord", "a.tfrecord"),
        ("webdataset", "a.tar"),
        ("parquet", "a.parquet"),
        ("folder", "folder"),
    ):
        out = tmp_path / f"from_{kind}"
        dataset.make(Options(f"{kind}:{tmp_path}/{where}", num_shards=2), str(out))
        found[kind] = {name: d for name, d in digests(out).items() if "-of-" in name}
        pictures = [sample["image"] for sample in samples(out)]
        assert len(pictures) == 12
        found[kind, "pictures"] = pictures
    assert len(found["tfrecord"]) == 2
    assert found["tfrecord"] == found["webdataset"] == found["parquet"]
    assert found["folder", "pictures"] == found["tfrecord", "pictures"]
    assert ids(tmp_path / "from_folder")[0] == ids(tmp_path / "from_tfrecord")[0] + ".jpg"


def test_both_formats_of_img2dataset_give_the_same_files(tmp_path):
    """Its fixtures are explained in tests/data/fixtures/provenance.json."""
    fixtures = ROOT / "tests" / "data" / "fixtures"
    found = []
    for kind, suffix in (("tfrecord", "tfrecord"), ("webdataset", "tar")):
        source = f"{kind}:{fixtures}/img2dataset_{kind}/*.{suffix}"
        out = tmp_path / kind
        summary = dataset.make(Options(source, num_shards=2, duplicates="none"), str(out))
        assert summary["kept"] == summary["input"] > 0
        found.append({name: d for name, d in digests(out).items() if "-of-" in name})
    assert len(found[0]) == 2 and found[0] == found[1]


def test_the_seed_alone_changes_the_order(messy, made, tmp_path):
    out, _ = made
    dataset.make(options(messy, seed=1), str(tmp_path / "other"))
    assert ids(tmp_path / "other") != ids(out)
    assert sorted(ids(tmp_path / "other")) == sorted(ids(out))


def test_resizing_duplicates_by_picture_and_further_features(messy, tmp_path):
    out = tmp_path / "small"
    chosen = options(
        messy,
        resize=32,
        quality=80,
        duplicates="image",
        keep=("width",),
        file_format="array_record",
        num_shards=0,
        shard_mb=0.01,
    )
    summary = dataset.make(chosen, str(out))
    assert summary["dropped"]["duplicate"]["samples"] == 3  # `other` has the picture of good3
    assert summary["images_encoded_anew"] == summary["kept"] == 34
    assert summary["shards"] == -(-summary["record_bytes"] // int(0.01 * 2**20)) > 1
    builder = tfds.builder_from_directory(str(out))
    assert builder.info.file_format is tfds.core.FileFormat.ARRAY_RECORD
    found = list(builder.as_data_source(split="train"))
    assert {len(sample["id"]) == sample["width"] for sample in found} == {True}
    assert {min(sample["image"].shape[:2]) for sample in found} == {32}
    large = next(sample["image"] for sample in found if sample["id"] == b"large")
    assert large.shape == (32, 64, 3)
    again = tmp_path / "again"
    dataset.make(chosen, str(again))
    records = [name for name in digests(out) if "array_record" in name]
    assert records and all(digests(out)[name] == digests(again)[name] for name in records)


class Died(Exception):
    """Stands for the end of the process."""


def test_a_killed_run_continues_and_gives_the_same_files(messy, made, tmp_path, monkeypatch):
    """Every run may finish three more files; what is finished is not made again."""
    out, finished = tmp_path / "dies", collections.Counter()
    allowed = 0
    whole = storage.whole

    @contextlib.contextmanager
    def counted(path):
        nonlocal allowed
        with whole(path) as part:
            yield part
            allowed -= 1
            if allowed < 0:
                raise Died
        finished[Path(path).name] += 1

    monkeypatch.setattr(storage, "whole", counted)
    deaths = 0
    while True:
        allowed = 3
        try:
            dataset.make(options(messy), str(out))
            break
        except (Died, DataError):
            assert not out.exists()
            deaths += 1
    assert deaths >= 5
    assert digests(out) == digests(made[0])
    made_again = {name for name, times in finished.items() if times > 1}
    records = {f"{number:06d}.records" for number in range(3)}
    assert made_again <= records | {"tally.json", "000.entries"}


KILLED = """
import contextlib, os, runpy, signal, sys
sys.path.insert(0, "tools")
from clipa_jax.runtime import storage
whole, left = storage.whole, 2

@contextlib.contextmanager
def counted(path):
    global left
    with whole(path) as part:
        yield part
        left -= "-of-" in os.path.basename(path)
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

storage.whole = counted
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_after_kill_9_of_the_command_the_next_run_gives_the_same_files(messy, made, tmp_path):
    """Killed when its second shard is written but has not got its name."""
    out = tmp_path / "killed"
    command = ["tools/prepare_data.py", f"--source={messy.source}", f"--out={out}"]
    command += ["--num_shards=4", *(f"--{name}={value}" for name, value in FILTERS.items())]
    done = run(sys.executable, "-c", KILLED, *command)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not out.exists()
    unfinished = Path(f"{out}{dataset.UNFINISHED}") / "dataset"
    names = [file.name for file in unfinished.iterdir()]
    assert len(names) == 2 and sum(".part-" in name for name in names) == 1
    kept = next(unfinished.glob("*-of-00004"))
    before = kept.stat().st_mtime_ns
    summary = dataset.make(options(messy), str(out))
    assert summary["kept"] == len(messy.good)
    assert (out / kept.name).stat().st_mtime_ns == before
    assert digests(out) == digests(made[0])


def run(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_another_runner_makes_the_same_files(messy, made, tmp_path):
    """The protocol that Flink and Spark speak, with Beam's job server for Python."""
    arguments = ["--job_endpoint=embed", "--environment_type=LOOPBACK"]
    out = str(tmp_path / "portable")
    dataset.make(options(messy), out, runner="PortableRunner", arguments=arguments)
    assert digests(tmp_path / "portable") == digests(made[0])


def test_two_dask_workers_make_the_same_files(messy, made, tmp_path):
    """Each in a process of its own."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as c:
        arguments = [f"--dask_client_address={c.scheduler_address}", "--dask_npartitions=4"]
        out = tmp_path / "dask"
        dataset.make(options(messy), str(out), runner="DaskRunner", arguments=arguments)
    assert digests(out) == digests(made[0])


def test_an_unfinished_folder_with_other_options_is_refused(messy, tmp_path):
    out = tmp_path / "other"
    folder = Path(f"{out}{dataset.UNFINISHED}")
    plan = {"options": options(messy, quality=50).as_dict()}
    folder.mkdir()
    (folder / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(DataError, match=r"other options: quality=92 \(was 50\); delete it"):
        dataset.make(options(messy), str(out))


def test_an_existing_dataset_is_not_overwritten(messy, made):
    with pytest.raises(DataError, match="a dataset exists"):
        dataset.make(options(messy), str(made[0]))


def test_a_run_killed_after_the_rename_only_cleans_up(messy, tmp_path, monkeypatch):
    out, publish = tmp_path / "late", dataset.publish

    def die():
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(dataset, "publish", lambda *args: (publish(*args), die())[0])
        with pytest.raises(Died):
            dataset.make(options(messy), str(out))
    before = digests(out)
    summary = dataset.make(options(messy), str(out))
    assert summary["kept"] == len(messy.good) and digests(out) == before
    assert not Path(f"{out}{dataset.UNFINISHED}").exists()


def test_where_folders_cannot_be_renamed_the_metadata_comes_last(monkeypatch):
    """A file system in memory stands for that of a cloud."""
    names = ["dataset_info.json", "a-train.tfrecord-00000-of-00001", "features.json"]
    for name in names:
        storage.write(f"memory://here/{name}", name.encode())
    moved, rename = [], storage.rename
    monkeypatch.setattr(storage, "rename", lambda old, new: (moved.append(new), rename(old, new)))
    dataset.publish("memory://here", "memory://there")
    assert moved[-1] == "memory://there/dataset_info.json"
    assert storage.names("memory://there") == sorted(names)


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_both_file_formats_work_on_every_file_system(file_format, tmp_path):
    records = [b"one", b"", b"three" * 1_000]
    for path in (f"memory://{file_format}/x", str(tmp_path / "x")):
        shards.write_file(path, file_format, records)
        assert list(shards.read(path, file_format)) == records


def test_a_dataset_without_samples_is_an_error_with_the_reasons(messy, tmp_path):
    with pytest.raises(DataError, match=r"(?s)none of the 45 samples.*too_small"):
        dataset.make(options(messy, min_side=1_000), str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_a_holdout_is_a_split_of_its_own(messy, tmp_path):
    out = tmp_path / "held"
    command = ["tools/prepare_data.py", f"--source={messy.source}", f"--out={out}"]
    done = run(sys.executable, *command, "--holdout=20%", "--num_shards=1")
    assert done.returncode == 0, done.stderr
    splits = {
        name: [sample["id"] for sample in samples(out, name)] for name in ("train", "validation")
    }
    assert {name: len(split) for name, split in splits.items()} == {"train": 30, "validation": 8}
    assert not set(splits["train"]) & set(splits["validation"])
    assert json.loads((out / "report.json").read_text())["splits"] == {"train": 30, "validation": 8}


@pytest.mark.parametrize(
    ("lengths", "text"), [([35], "1 file of 35 samples"), ([18, 17], "2 files of 17 to 18 samples")]
)
def test_the_number_of_files_is_in_the_right_grammatical_form(lengths, text):
    summary = {
        "shards": len(lengths),
        "samples_per_shard": [min(lengths), max(lengths)],
        "splits": {"train": 35},
        "record_bytes": 1_000,
    }
    assert text in report.written(summary, "out")


@pytest.mark.parametrize(("text", "share"), [("2%", 0.02), ("0.5", 0.5), ("", 0.0)])
def test_shares_are_parsed(text, share):
    assert parse_share("holdout", text) == share
    with pytest.raises(DataError, match="holdout=two: expected a share"):
        parse_share("holdout", "two")


def test_a_damaged_shard_of_an_unfinished_run_is_found(messy, tmp_path):
    path = tmp_path / "x.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"something else")
    entry_X = np.zeros(1, index.ENTRY)
    with pytest.raises(DataError, match="differs from what was written"):
        shards.check(str(path), "tfrecord", entry_X)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file_format": "tfrecords"}, "unknown file format 'tfrecords'; nearest: tfrecord"),
        ({"duplicates": "images"}, "nearest: image"),
        ({"name": "My Pairs"}, "small letters"),
        ({"version": "1"}, "three numbers"),
        ({"quality": 0}, "1 to 100"),
        ({"max_aspect": 0.5}, "max_aspect=0.5: expected"),
        ({"min_chars": 5, "max_chars": 4}, "below min_chars"),
        ({"keep": ("id",)}, "always kept"),
        ({"resize": -1}, "negative"),
        ({"holdout": 1.5}, "holdout=1.5"),
    ],
)
def test_options_that_cannot_be_used_are_refused(change, message):
    with pytest.raises(DataError, match=message):
        Options(source="tfrecord:x", **change)


def test_an_unknown_runner_is_refused(messy, tmp_path):
    with pytest.raises(DataError, match="runner NoSuchRunner"):
        dataset.make(options(messy), str(tmp_path / "x"), runner="NoSuchRunner")


def test_pictures_of_evaluation_sets_are_dropped_however_they_are_encoded(messy, tmp_path):
    for name, number in (("resized", 3), ("mirrored", 5), ("another", 99)):
        (tmp_path / name).mkdir()
        picture = photo(number).resize((24, 20))
        if name == "mirrored":
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        picture.save(tmp_path / name / "0.png")
    sets = tuple(f"folder:{tmp_path}/{name}" for name in ("resized", "mirrored", "another"))
    summary = dataset.make(options(messy, exclude=sets), str(tmp_path / "out"))
    counted = {name: entry["samples"] for name, entry in summary["dropped"].items()}
    # `other` has the picture of good3.
    near = {name: count for name, count in counted.items() if name.startswith("near")}
    assert near == {f"near duplicate of {sets[0]}": 2, f"near duplicate of {sets[1]}": 1}
    assert {"good3", "good5", "other"} & set(ids(tmp_path / "out")) == set()
    assert summary["kept"] == len(messy.good) - 3


def test_an_unknown_evaluation_set_is_refused_before_any_work(messy, tmp_path):
    with pytest.raises(UserError, match="imagenet2k"):
        dataset.make(options(messy, exclude=("imagenet2k",)), str(tmp_path / "out"))

"""Datasets made from a messy input, and read by TFDS and the pipeline."""

import io
import itertools
import json
import re
import tarfile
from pathlib import Path

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
from clipa_jax.prepare import dataset, report
from clipa_jax.prepare.options import Options
from tests.helpers.prepared import ROOT, digests, ids, options, samples
from tests.prepare.conftest import encoded, example, photo, write


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
    data = pipeline.train_data(Settings(config, "config.input"), seed=0)
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


def test_a_dataset_without_samples_is_an_error_with_the_reasons(messy, tmp_path):
    with pytest.raises(DataError, match=r"(?s)none of the 45 samples.*too_small"):
        dataset.make(options(messy, min_side=1_000), str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_a_holdout_is_a_split_of_its_own(messy, tmp_path):
    out = tmp_path / "held"
    dataset.make(Options(messy.source, holdout=0.2, num_shards=1), str(out))
    splits = {
        name: [sample["id"] for sample in samples(out, name)] for name in ("train", "validation")
    }
    assert {name: len(split) for name, split in splits.items()} == {"train": 30, "validation": 8}
    assert not set(splits["train"]) & set(splits["validation"])
    assert json.loads((out / "report.json").read_text())["splits"] == {"train": 30, "validation": 8}


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

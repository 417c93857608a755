"""Every format gives the same samples."""

import itertools
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from clipa_jax.data import pipeline, reading, sources
from clipa_jax.errors import DataError
from tests.data.conftest import (
    LENGTHS,
    SAMPLES,
    SHARDED,
    SINGLE,
    TOTAL,
    everything,
    settings,
    tfds_features,
)
from tests.helpers import writers

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.mark.parametrize("kind", (*SHARDED, *SINGLE, "parquet flat"))
def test_formats_give_the_same_samples(specs, kind):
    label = {"webdataset": "cls", "folder": None}.get(kind, "label")
    source = sources.open(specs[kind], "train")
    assert [shard.length for shard in source.shards] == ([TOTAL] if kind in SINGLE else [*LENGTHS])
    assert source.has_captions
    assert label is None or label in source.features
    found = everything(specs[kind], (label,) if label else ())
    for number, (sample_, expected) in enumerate(zip(found, SAMPLES, strict=True)):
        assert sample_["image"] == expected["image"]
        assert sample_["captions"] == expected["captions"]
        if kind not in SINGLE:
            assert sample_["id"].decode() == expected["id"]
        if label:
            assert sample_[label] == expected["label"], number


@pytest.mark.parametrize(
    ("order", "kinds"), [("lanes", SHARDED), ("global", (*SHARDED[1:2], "webdataset", *SINGLE))]
)
def test_formats_give_the_same_batches(specs, order, kinds):
    """In the order of lanes shards of the same lengths; in the global one any shards."""
    changes = {"res": 6, "preprocess": "decode|resize({res})|flip_lr", "order": order}
    streams = [pipeline.train_data(settings(specs[k], **changes), seed=5).start() for k in kinds]
    batches = [[batch["image"] for batch, _ in itertools.islice(s, 8)] for s in streams]
    for other in batches[1:]:
        np.testing.assert_array_equal(np.stack(other), np.stack(batches[0]))


@pytest.mark.parametrize("kind", ["array_record", "webdataset", "parquet"])
def test_resume_and_hosts(specs, kind):
    """More on this, for other formats, in test_pipeline.py."""
    data = pipeline.train_data(settings(specs[kind]), seed=0)
    whole = list(itertools.islice(data.start(), 15))
    seen = np.concatenate([batch["image"] for batch, _ in whole])[: TOTAL // 8 * 8]
    assert len({image.tobytes() for image in seen}) == len(seen)
    done = 6  # the batch at the border of epochs comes next
    shares = [
        pipeline.train_data(settings(specs[kind]), seed=0, process_index=host, process_count=2)
        for host in range(2)
    ]
    rest = [itertools.islice(share.start(whole[done - 1][1]), 4) for share in shares]
    for (batch, _), *parts in zip(whole[done:], *rest, strict=False):
        joined = np.concatenate([part["image"] for part, _ in parts])
        np.testing.assert_array_equal(joined, batch["image"])


@pytest.mark.parametrize("kind", ["tfrecord", "webdataset"])
def test_what_img2dataset_wrote(kind, tmp_path):
    """20 pictures and two links that lead to none; see fixtures/provenance.json."""
    shutil.copytree(FIXTURES / f"img2dataset_{kind}", tmp_path / "data")
    found = everything(f"{kind}:{tmp_path}/data/0*")
    assert [s["captions"] for s in found] == [[f"picture {number}"] for number in range(20)]
    assert found[9]["id"] == b"000011"
    assert [tf.io.decode_jpeg(s["image"]).shape for s in found] == [(24, 32, 3)] * 20
    assert sources.open(f"{kind}:{tmp_path}/data/0*", "").shards[2].length == 4


def test_what_img2dataset_wrote_is_the_same_in_both():
    folders = [FIXTURES / f"img2dataset_{kind}" for kind in ("tfrecord", "webdataset")]
    a = everything(f"tfrecord:{folders[0]}/*.tfrecord")
    assert a == everything(f"webdataset:{folders[1]}/*.tar")


def test_a_real_builder_in_both_file_formats(tmp_path):
    class Tiny(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = tmp_path

        def _info(self):
            return self.dataset_info_from_configs(features=tfds_features())

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            yield from ((s["id"], s) for s in SAMPLES)

    found = []
    for kind in ("tfrecord", "array_record"):
        builder = Tiny(data_dir=tmp_path / kind, file_format=kind)
        builder.download_and_prepare()
        found.append(everything(f"tfds:{builder.data_dir}"))
        assert sources.open(f"tfds:{builder.data_dir}", "train").random_access == (
            kind == "array_record"
        )
        part = sources.open(f"tfds:{builder.data_dir}", "train[10:30]")
        records = list(reading.everything(part))
        assert [part.parse(r)["id"].numpy() for r in records] == [s["id"] for s in found[0][10:30]]
    assert found[0] == found[1]
    assert {s["image"] for s in found[0]} == {s["image"] for s in SAMPLES}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("webdataset:/nowhere/{0..3}.tar", "no files match /nowhere/0.tar"),
        ("folder:/nowhere", "no such folder or file"),
        ("parquet:/nowhere/*", "no files match"),
        ("tfrecord:https://example.invalid/{0..3}.tfrecord", "no files match|TensorFlow reads no"),
        ("webdataset:gopher://x/y.tar", "gopher"),
        ("webdatset:x", "nearest: webdataset"),
        ("0.5*folder:/nowhere + tfds:x", "1 of 2|no such folder"),
        ("0*tfds:x", "not a positive number"),
    ],
)
def test_errors(spec, message):
    with pytest.raises(DataError, match=message):
        sources.open(spec, "train")


def test_no_pictures_in_it(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        writers.add(tar, "a.mp3", b"sound")
    with pytest.raises(DataError, match="no member with a suffix of jpg.*there are mp3"):
        sources.open(f"webdataset:{tmp_path}/a.tar", "")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 is not enough")
    with pytest.raises(DataError, match="bad.parquet cannot be read"):
        sources.open(f"parquet:{tmp_path}/bad.parquet", "")
    (tmp_path / "t.jsonl").write_text('{"file_name": "a.png"}\n{broken\n')
    with pytest.raises(DataError, match="line 2"):
        sources.open(f"folder:{tmp_path}/t.jsonl", "")

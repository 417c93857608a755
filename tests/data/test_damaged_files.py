"""Files that are damaged, truncated, compressed or change while they are read (docs/data.md)."""

import gzip
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
import tensorflow as tf

from clipa_jax.data import reading, sources
from clipa_jax.data.sources import tar
from clipa_jax.errors import DataError
from tests.data.conftest import sample, write_tfds, write_tfrecords
from tests.helpers import writers
from tests.helpers.odd_data import PICTURE, captions, counted, write_records, write_tar


def damage(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


def offsets(path: Path) -> list[int]:
    return sources.tfrecord.offsets(str(path)).tolist()


@pytest.mark.parametrize("kind", ["tfrecord", "tfds"])
def test_bad_checksums_cost_their_own_records(tmp_path, kind):
    rows = [sample(number) for number in range(150)]
    if kind == "tfds":
        spec = write_tfds(tmp_path / "tiny" / "1.0.0", {"train": rows}, (150,))
    else:
        spec = write_tfrecords(tmp_path, rows, (150,))
    path = next(tmp_path.rglob("*.tfrecord*"))
    begins = offsets(path)
    for number in (3, 70, 71, 149):
        damage(path, begins[number] + 40)
    source = sources.open(spec, "train")
    records = list(reading.everything(source))
    assert [n for n, record in enumerate(records) if record == [b""]] == [3, 70, 71, 149]
    assert [source.parse(records[n])["id"] for n in (0, 69, 72, 148)] == [
        f"id{n}".encode() for n in (0, 69, 72, 148)
    ]
    # From the middle too, where the damaged ones before do not count.
    part = source.read(*(tf.constant(n, tf.int64) for n in (0, 68, 5)))
    assert [bool(record[0]) for record in part.as_numpy_iterator()] == [1, 1, 0, 0, 1]


def test_a_damaged_length_hides_what_follows(tmp_path, caplog):
    spec = write_tfrecords(tmp_path, [sample(number) for number in range(9)], (9,))
    damage(tmp_path / "00000.tfrecord", offsets(tmp_path / "00000.tfrecord")[5] + 2)
    counted(spec, [""] * 5 + ["unreadable"])
    assert "00000.tfrecord is truncated or damaged in record 5" in caplog.text


def test_a_truncated_tfrecord(tmp_path, caplog):
    spec = write_tfrecords(tmp_path, [sample(number) for number in range(6)], (6,))
    path = tmp_path / "00000.tfrecord"
    path.write_bytes(path.read_bytes()[:-50])
    counted(spec, [""] * 5 + ["unreadable"])
    assert "00000.tfrecord is truncated or damaged in record 5" in caplog.text


def test_a_truncated_tar(tmp_path, caplog):
    rows = [sample(number) for number in range(6)]
    spec = writers.write_tars(tmp_path, rows, (6,))
    path = tmp_path / "00000.tar"
    with path.open("rb") as file:
        members = list(tar.members(file, path.stat().st_size))
    path.write_bytes(path.read_bytes()[: members[-3].offset + 10])  # inside the last picture
    counted(spec, [""] * 5 + ["unreadable"])
    assert "00000.tar is truncated inside sample 5" in caplog.text


def test_a_damaged_tar(tmp_path, caplog):
    spec = writers.write_tars(tmp_path, [sample(number) for number in range(6)], (6,))
    path = tmp_path / "00000.tar"
    with path.open("rb") as file:
        members = list(tar.members(file, path.stat().st_size))
    damage(path, members[9].name_offset + 1)  # the first header of the fourth sample
    # One sample stands for all that cannot be found any more.
    counted(spec, [""] * 3 + ["unreadable"])
    assert "00000.tar is damaged behind sample 3" in caplog.text


def test_a_tar_that_changes_during_the_run(tmp_path):
    spec = writers.write_tars(tmp_path, [sample(number) for number in range(6)], (6,))
    source = sources.open(spec, "")
    path = tmp_path / "00000.tar"
    path.write_bytes(path.read_bytes()[:4000])
    found = [bool(record.numpy()[0]) for record in reading.everything(source)]
    assert found[0] and not any(found[2:])
    path.unlink()
    assert [any(record.numpy()) for record in reading.everything(source)] == [False] * 6


def test_a_member_beyond_all_measure(tmp_path, monkeypatch):
    monkeypatch.setattr(sources.webdataset, "_LARGEST", 1000)
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        for number, size in enumerate((10, 5000, 10)):
            writers.add(file, f"{number}.png", bytes(size + 1))
    found = reading.everything(sources.open(f"webdataset:{tmp_path}/a.tar", ""))
    assert [len(record.numpy()[0]) for record in found] == [11, 0, 11]


def test_a_damaged_first_record_does_not_decide_for_all(tmp_path):
    spec = write_records(tmp_path / "0.tfrecord", [{"jpg": PICTURE, "txt": b"caption"}] * 4)
    content = bytearray((tmp_path / "0.tfrecord").read_bytes())
    content[40] ^= 255
    (tmp_path / "0.tfrecord").write_bytes(content)
    assert captions(spec) == [None, ["caption"], ["caption"], ["caption"]]


@pytest.mark.parametrize("options", ["GZIP", "ZLIB"])
def test_a_compressed_tfrecord_file_is_named_as_such(tmp_path, options):
    with tf.io.TFRecordWriter(str(tmp_path / "0.tfrecord"), options) as writer:
        writer.write(b"x" * 1000)
    with pytest.raises(DataError, match=f"is compressed \\({options.lower()}\\)"):
        sources.open(f"tfrecord:{tmp_path}/0.tfrecord", "train")


def test_a_compressed_tar_is_named_as_such(tmp_path):
    write_tar(tmp_path / "0.tar", [("0.png", PICTURE)])
    (tmp_path / "1.tar").write_bytes(gzip.compress((tmp_path / "0.tar").read_bytes()))
    with zipfile.ZipFile(tmp_path / "2.tar", "w") as archive:
        archive.write(tmp_path / "0.tar")
    for name, kind in (("1.tar", "gzip"), ("2.tar", "zip")):
        with pytest.raises(DataError, match=f"{name} is compressed \\({kind}\\)"):
            sources.open(f"webdataset:{tmp_path}/{name}", "train")


def test_more_array_record_files_than_a_process_may_open(tmp_path, monkeypatch):
    resource = pytest.importorskip("resource")
    folder = tmp_path / "tiny" / "1.0.0"
    rows = [sample(n % 40) for n in range(200)]
    spec = write_tfds(folder, {"train": rows}, kind="array_record", lengths=(1,) * 200)
    source = sources.open(spec, "train")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 60
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 160, before[1]))
    try:
        shards = tf.range(200, dtype=tf.int64)
        records = source.fetch(shards, tf.zeros_like(shards)).numpy()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert all(record != b"" for record in records[:, 0])

"""Every format gives the same samples, wherever its files come from."""

import csv
import functools
import http.server
import itertools
import json
import shutil
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
import webdataset

from clipa_jax.data import pipeline, reading, sources
from clipa_jax.data.sources import index
from clipa_jax.errors import DataError
from clipa_jax.runtime import storage
from tests.data.conftest import (
    LENGTHS,
    TOTAL,
    everything,
    sample,
    settings,
    tfds_features,
    write_tfds,
    write_tfrecords,
)
from tests.helpers import writers

FIXTURES = Path(__file__).parent / "fixtures"
SAMPLES = [sample(number) for number in range(TOTAL)]
SHARDED = ("tfds", "array_record", "tfrecord", "webdataset", "parquet")
SINGLE = ("folder", "table")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Indexes that cannot be kept beside the data go here."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def specs(tmp_path_factory) -> dict[str, str]:
    """TOTAL samples in every format."""
    folder = tmp_path_factory.mktemp("formats")
    splits = {"train": SAMPLES}
    return {
        "tfds": write_tfds(folder / "tfds" / "tiny" / "1.0.0", splits),
        "array_record": write_tfds(
            folder / "array" / "tiny" / "1.0.0", splits, kind="array_record"
        ),
        "tfrecord": write_tfrecords(folder / "tfrecord", SAMPLES),
        "webdataset": writers.write_tars(folder / "tars", SAMPLES, LENGTHS),
        "parquet": writers.write_parquet(folder / "parquet", SAMPLES, LENGTHS),
        "parquet flat": writers.write_parquet(folder / "flat", SAMPLES, LENGTHS, nested=False),
        "folder": writers.write_folder(folder / "folder", SAMPLES),
        "table": writers.write_table(folder / "table", SAMPLES),
    }


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
    streams = [pipeline.train(settings(specs[k], **changes), seed=5).start() for k in kinds]
    batches = [[batch["image"] for batch, _ in itertools.islice(s, 8)] for s in streams]
    for other in batches[1:]:
        np.testing.assert_array_equal(np.stack(other), np.stack(batches[0]))


@pytest.mark.parametrize("kind", ["array_record", "webdataset", "parquet"])
def test_resume_and_hosts(specs, kind):
    """More on this, for other formats, in test_pipeline.py."""
    data = pipeline.train(settings(specs[kind]), seed=0)
    whole = list(itertools.islice(data.start(), 15))
    seen = np.concatenate([batch["image"] for batch, _ in whole])[: TOTAL // 8 * 8]
    assert len({image.tobytes() for image in seen}) == len(seen)
    done = 6  # the batch at the border of epochs comes next
    shares = [
        pipeline.train(settings(specs[kind]), seed=0, process_index=host, process_count=2)
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


def test_what_webdataset_wrote(tmp_path):
    with webdataset.ShardWriter(str(tmp_path / "%03d.tar"), maxcount=20, verbose=0) as writer:
        for fields in SAMPLES:
            json_ = {"caption": fields["captions"][0], "width": 8}
            writer.write(
                {"__key__": f"sub/{fields['id']}", "png": fields["image"], "json": json_, "cls": 7}
            )
    spec = f"webdataset:{tmp_path}/{{000..002}}.tar"
    found = everything(spec, ("cls",))
    assert [s["image"] for s in found] == [s["image"] for s in SAMPLES]
    assert [s["captions"] for s in found] == [s["captions"][:1] for s in SAMPLES]
    assert found[4]["id"] == b"sub/id4" and found[4]["cls"] == 7
    # As webdataset itself reads it.
    theirs = webdataset.WebDataset(f"{tmp_path}/{{000..002}}.tar", shardshuffle=False)
    assert [s["__key__"].encode() for s in theirs] == [s["id"] for s in found]


@pytest.mark.parametrize("form", ["USTAR_FORMAT", "GNU_FORMAT", "PAX_FORMAT"])
def test_tars_with_long_names_and_unrelated_members(tmp_path, form):
    key = "folder-" + "x" * 60 + "/" + "y" * 70
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=getattr(tarfile, form)) as tar:
        folder = tarfile.TarInfo(key.split("/")[0])
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        writers.add(tar, "README", b"not a sample")
        for number in range(3):
            writers.add(tar, f"{key}{number}.seg.PNG", b"other")
            writers.add(tar, f"{key}{number}.JPG", b"picture%d" % number)
            writers.add(tar, f"{key}{number}.txt", f"größe {number}".encode())
    found = everything(f"webdataset:{path}", ("seg.png",))
    assert [s["image"] for s in found] == [b"picture0", b"picture1", b"picture2"]
    assert [s["captions"] for s in found] == [[f"größe {number}"] for number in range(3)]
    assert [s["seg.png"] for s in found] == [b"other"] * 3
    # Old headers cut long paths in two, of which the id has the second.
    assert found[1]["id"].decode() == (key + "1" if form != "USTAR_FORMAT" else key[68:] + "1")


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


def test_tables(tmp_path):
    (tmp_path / "a.png").write_bytes(b"A")
    (tmp_path / "b.png").write_bytes(b"B")
    rows = [("filepath", "title", "label"), ("b.png", 'say "b",\nthen', "3"), ("a.png", "a", "x")]
    for name, mark in (("t.csv", ","), ("t.tsv", "\t")):
        with (tmp_path / name).open("w", newline="") as file:
            csv.writer(file, delimiter=mark).writerows(rows)
        found = everything(f"folder:{tmp_path}/{name}", ("label",))
        assert [(s["image"], s["captions"]) for s in found] == [
            (b"B", ['say "b",\nthen']),
            (b"A", ["a"]),
        ]
        assert [s["label"] for s in found] == [b"3", b"x"]
    shutil.copy(tmp_path / "t.csv", tmp_path / "metadata.csv")  # found by itself
    assert len(everything(f"folder:{tmp_path}")) == 2


def test_captions_beside_pictures(tmp_path):
    for name in ("b.jpg", "a.png", "deep/c.WEBP", "d.gif", "none.jpeg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "a.txt").write_text("an a")
    (tmp_path / "b.caption").write_text("a b")
    (tmp_path / "deep" / "c.json").write_text(json.dumps({"caption": "a c"}))
    (tmp_path / "d.json").write_text("{broken")
    found = everything(f"folder:{tmp_path}")
    assert [s["id"] for s in found] == [b"a.png", b"b.jpg", b"d.gif", b"deep/c.WEBP", b"none.jpeg"]
    assert [s["captions"] for s in found] == [["an a"], ["a b"], [""], ["a c"], [""]]


class Ranges(http.server.SimpleHTTPRequestHandler):
    """A web server that knows ranges, if it is told to, and counts the bytes it sends."""

    ranges, sent = True, 0

    def do_GET(self):
        asked = self.headers.get("Range")
        path = Path(self.translate_path(self.path))
        if not path.is_file() or not asked or not self.ranges:
            return super().do_GET()
        first, last = asked.removeprefix("bytes=").split("-")
        data = path.read_bytes()
        part = data[int(first) : int(last) + 1]
        type(self).sent += len(part)
        self.send_response(206)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}")
        self.end_headers()
        self.wfile.write(part)
        return None

    def log_message(self, *args):
        pass


@pytest.fixture
def served(specs):
    """From a local path to its address on a web server of this machine."""
    root = Path(specs["webdataset"].removeprefix("webdataset:")).parents[1]
    handler = functools.partial(Ranges, directory=str(root))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield lambda path: path.replace(str(root), f"http://127.0.0.1:{server.server_address[1]}")
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("ranges", [True, False])
def test_over_http(specs, served, ranges, monkeypatch):
    monkeypatch.setattr(Ranges, "ranges", ranges)
    monkeypatch.setattr(Ranges, "sent", 0)
    local, spec = specs["webdataset"], served(specs["webdataset"])
    assert everything(spec) == everything(local)
    if ranges:  # resuming asks for what it needs
        source = sources.open(spec, "train")
        Ranges.sent = 0
        source.fetch(tf.constant([2], tf.int64), tf.constant([15], tf.int64))
        assert 0 < Ranges.sent < 4096
        parquet = served(specs["parquet"]).replace("*", "{00000..00003}")
        assert everything(parquet) == everything(specs["parquet"])
        assert everything(served(specs["table"])) == everything(specs["table"])


def test_other_file_systems(specs):
    """fsspec's in memory, as gs:// and s3:// are others."""
    for kind, glob in (("webdataset", "*.tar"), ("parquet", "*.parquet"), ("folder", "")):
        place = Path(specs[kind].partition(":")[2])
        root = place if kind == "folder" else place.parent
        for path in filter(Path.is_file, root.rglob("*.*")):
            storage.write(f"memory://bucket/{kind}/{path.relative_to(root)}", path.read_bytes())
        assert everything(f"{kind}:memory://bucket/{kind}/{glob}".rstrip("/")) == everything(
            specs[kind]
        )


def test_braces_and_commas():
    assert list(storage.braces("{08..10}.tar")) == ["08.tar", "09.tar", "10.tar"]
    assert list(storage.braces("{a,b}/{1..0}")) == ["a/1", "a/0", "b/1", "b/0"]
    assert list(storage.braces("plain")) == ["plain"]


def test_the_index_is_kept_and_renewed(specs, monkeypatch, tmp_path):
    shutil.copytree(Path(specs["webdataset"].removeprefix("webdataset:")).parent, tmp_path / "a")
    spec = f"webdataset:{tmp_path}/a/*.tar"
    everything(spec)
    looked = []
    scan = sources.webdataset.tar.scan
    monkeypatch.setattr(sources.webdataset.tar, "scan", lambda p: looked.append(p) or scan(p))
    everything(spec)
    assert not looked
    path = tmp_path / "a" / "00001.tar"
    with tarfile.open(path, "a") as tar:
        writers.add(tar, "new.png", b"new")
    index.opened.cache_clear()
    assert len(everything(spec)) == TOTAL + 1 and looked == [str(path)]
    assert (tmp_path / "a" / ".clipa_jax_index.json").is_file()


def test_the_index_of_a_folder_that_cannot_be_written(specs, tmp_path, monkeypatch):
    folder = tmp_path / "a"
    shutil.copytree(Path(specs["webdataset"].removeprefix("webdataset:")).parent, folder)
    for left in folder.glob(f"{index.NAME}*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    (folder / index.NAME).write_text("a file where the index would be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    spec = f"webdataset:{folder}/*.tar"
    assert len(everything(spec)) == TOTAL
    assert len(list((tmp_path / "cache").rglob("*.npz"))) == len(LENGTHS)


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


def copied(specs, kind: str, folder: Path) -> list[Path]:
    """The files of a format, without an index."""
    source = Path(specs[kind].partition(":")[2]).parent
    folder.mkdir()
    return [Path(shutil.copy(path, folder)) for path in sorted(source.glob("0*"))]


def scans(monkeypatch, module) -> list[str]:
    """The files that are scanned from now on."""
    looked, scan = [], module.scan if hasattr(module, "scan") else module._scan
    name = "scan" if hasattr(module, "scan") else "_scan"
    monkeypatch.setattr(module, name, lambda path: looked.append(Path(path).name) or scan(path))
    return looked


@pytest.mark.parametrize("record", ["sizes", "wids", "stats"])
def test_lengths_on_record_are_taken_without_reading_the_shards(
    specs, tmp_path, monkeypatch, record
):
    paths = [p for n in range(3) for p in copied(specs, "webdataset", tmp_path / f"{n}")]
    for folder in sorted({path.parent for path in paths}):
        names = [f"{number:05d}" for number in range(len(LENGTHS))]
        sizes = {f"{name}.tar": length for name, length in zip(names, LENGTHS, strict=True)}
        if record == "sizes":
            (folder / "sizes.json").write_text(json.dumps(sizes))
        elif record == "wids":
            shards = [{"url": f"s3://b/{k}", "nsamples": n} for k, n in sizes.items()]
            (folder / "shardindex.json").write_text(json.dumps({"shardlist": shards}))
        else:
            for name, length in zip(names, LENGTHS, strict=True):
                (folder / f"{name}_stats.json").write_text(json.dumps({"successes": length}))
    looked = scans(monkeypatch, sources.webdataset.tar)
    spec = f"webdataset:{tmp_path}/*/*.tar"
    source = sources.open(spec, "train")
    assert [shard.length for shard in source.shards] == [*LENGTHS] * 3
    assert len(looked) == 4  # of twelve, for the names of the members
    assert everything(spec) == everything(specs["webdataset"]) * 3
    assert len(looked) == 12


def test_a_length_on_record_that_is_wrong_is_reported_and_not_read_past(specs, tmp_path, caplog):
    copied(specs, "webdataset", tmp_path / "a")
    sizes = {"00000.tar": LENGTHS[0] + 2, "00001.tar": LENGTHS[1] - 1}
    (tmp_path / "a" / "sizes.json").write_text(json.dumps(sizes))
    good = everything(specs["webdataset"])
    expected = [*good[: LENGTHS[0]], None, None, *good[LENGTHS[0] : sum(LENGTHS[:2]) - 1]]
    assert everything(f"webdataset:{tmp_path}/a/{{00000,00001}}.tar") == expected
    messages = [record.getMessage() for record in caplog.records]
    assert any(f"has {LENGTHS[0]} samples, {LENGTHS[0] + 2} are on record" in m for m in messages)


def test_a_wrong_length_of_a_tfrecord_file_is_not_read_past(specs, tmp_path):
    copied(specs, "tfrecord", tmp_path / "a")
    (tmp_path / "a" / "00000_stats.json").write_text(json.dumps({"successes": LENGTHS[0] + 2}))
    found = everything(f"tfrecord:{tmp_path}/a/00000.tfrecord")
    assert found[LENGTHS[0] :] == [None, None]
    assert found[: LENGTHS[0]] == everything(specs["tfrecord"])[: LENGTHS[0]]


def test_a_bucket_of_many_shards_is_listed_and_not_asked_file_by_file(monkeypatch):
    count = 50
    for number in range(count):
        storage.write(f"memory://many/{number:05d}.tar", b"")
    sizes = {f"{number:05d}.tar": 10 for number in range(count)}
    storage.write("memory://many/sizes.json", json.dumps(sizes).encode())
    requests, call = [], storage._call
    monkeypatch.setattr(
        storage,
        "_call",
        lambda method, *args, **kw: requests.append(method) or call(method, *args, **kw),
    )
    paths = storage.expand("memory://many/{00000..00049}.tar", "webdataset")
    assert [scan.length for scan in index.build(paths, None)] == [10] * count
    assert len(requests) < 10


def test_counting_that_was_cut_off_is_gone_on_with(specs, tmp_path, monkeypatch):
    """So it is for what another host has counted."""
    folder = tmp_path / "a"
    copied(specs, "webdataset", folder)
    shutil.rmtree(folder / index.NAME, ignore_errors=True)
    (folder / f"{index.NAME}.json").unlink(missing_ok=True)
    monkeypatch.setattr(index, "_THREADS", 1)
    paths, looked = sorted(map(str, folder.glob("*.tar"))), []

    def scan(path):
        looked.append(path)
        if len(looked) == 3:
            raise KeyboardInterrupt
        return sources.tar.scan(path)

    with pytest.raises(KeyboardInterrupt):
        index.build(paths, scan)
    before = len(looked)
    scans = index.build(paths, scan)
    assert [scan.length for scan in scans] == list(LENGTHS)
    assert paths[2] in looked[before:] and not {*paths[:2]} & {*looked[before:]}
    assert all(scan.names and scan.table is None for scan in scans)

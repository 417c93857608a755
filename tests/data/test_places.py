"""Files on servers and in other file systems, their index and their recorded lengths."""

import functools
import http.server
import json
import re
import shutil
import tarfile
import threading
from http import HTTPStatus
from pathlib import Path

import pytest
import tensorflow as tf

from clipa_jax.data import sources
from clipa_jax.data.sources import index
from clipa_jax.errors import DataError, MissingData
from clipa_jax.runtime import storage
from tests.data.conftest import LENGTHS, SAMPLES, TOTAL, everything, write_tfds
from tests.helpers import bucket as buckets
from tests.helpers import writers


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


BUCKET = "gs://bucket/data"


@pytest.fixture
def bucket():
    with buckets.running() as running:
        yield running


@pytest.mark.parametrize("place", ["memory://bucket", BUCKET])
def test_other_file_systems(specs, bucket, place):
    """Of `gs://`, TensorFlow's own client reads TFRecord files; others go through fsspec."""
    globs = {"webdataset": "[0-9]*.tar", "parquet": "*.parquet", "folder": ""}
    globs["table"] = "captions.jsonl"
    if place.startswith("gs:"):
        globs |= {"tfrecord": "*.tfrecord", "tfds": ""}
    for kind, glob in globs.items():
        local = Path(specs[kind].partition(":")[2])
        root = local if local.is_dir() else local.parent
        for path in filter(Path.is_file, root.rglob("[!.]*")):
            storage.write(f"{place}/{kind}/{path.relative_to(root)}", path.read_bytes())
        spec = f"{specs[kind].partition(':')[0]}:{place}/{kind}/{glob}".rstrip("/")
        assert everything(spec) == everything(specs[kind]), kind


def test_files_of_several_folders_of_a_bucket_are_found_by_wildcards(specs, bucket):
    """Also where the index of an earlier start lies beside them."""
    source = Path(specs["webdataset"].partition(":")[2]).parent
    for number in range(4):
        content = (source / f"{number:05d}.tar").read_bytes()
        storage.write(f"{BUCKET}/{number // 2}/{number:05d}.tar", content)
    for wildcards in ("*/*.tar", "?/0000[0-3].tar", "**/*.tar", "*/*", "{0,1}/*"):
        assert everything(f"webdataset:{BUCKET}/{wildcards}") == everything(specs["webdataset"])


def test_what_is_not_in_a_bucket_is_named_and_so_is_what_may_not_be_listed(bucket):
    for where in ("*/*.tar", "{00000..00020}.tar", "a.tar"):
        with pytest.raises(MissingData, match=r"no files match gs://bucket/data/[0*a]"):
            sources.open(f"webdataset:{BUCKET}/{where}", "train")
    bucket.fails = lambda method, path: HTTPStatus.FORBIDDEN
    for where in ("*/*.tar", "{00000..00020}.tar", "a.tar"):
        with pytest.raises(DataError, match="cannot be listed: .*Forbidden.* permissions"):
            sources.open(f"webdataset:{BUCKET}/{where}", "train")


def test_a_tfds_folder_of_many_shards_in_a_bucket_is_listed(tmp_path, bucket):
    count = 40
    local = write_tfds(tmp_path / "1.0.0", {"train": SAMPLES[:count]}, lengths=(1,) * count)
    folder = Path(local.removeprefix("tfds:"))
    bucket.put("data", {path.name: path.read_bytes() for path in folder.iterdir()})
    source = sources.open(f"tfds:{BUCKET}", "train")
    assert len(source.shards) == count and len(bucket.requests) < count
    gone = next(iter(source.shards)).path
    storage.remove(gone)
    with pytest.raises(MissingData, match=f"{gone} is missing"):
        sources.open(f"tfds:{BUCKET}", "train")


def test_array_records_in_a_bucket_are_refused_before_they_are_read(specs, bucket):
    folder = Path(specs["array_record"].removeprefix("tfds:"))
    bucket.put("data", {path.name: path.read_bytes() for path in folder.iterdir()})
    with pytest.raises(DataError, match="ArrayRecord reads no gs:// files; copy them"):
        sources.open(f"tfds:{BUCKET}", "train")


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


def copied(specs, kind: str, folder: Path) -> list[Path]:
    """The files of a format, without an index."""
    source = Path(specs[kind].partition(":")[2]).parent
    folder.mkdir()
    return [Path(shutil.copy(path, folder)) for path in sorted(source.glob("0*"))]


def scans(monkeypatch, module) -> list[str]:
    """The files that are scanned from now on."""
    looked, scan = [], module.scan if hasattr(module, "scan") else module._scan
    name = "scan" if hasattr(module, "scan") else "_scan"
    monkeypatch.setattr(
        module, name, lambda path, *rest: looked.append(Path(path).name) or scan(path, *rest)
    )
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
    expected = everything(specs["webdataset"]) * 3
    looked = scans(monkeypatch, sources.webdataset.tar)
    spec = f"webdataset:{tmp_path}/*/*.tar"
    source = sources.open(spec, "train")
    assert [shard.length for shard in source.shards] == [*LENGTHS] * 3
    assert len(looked) == 4  # of twelve, at their beginnings, for the names of the members
    assert everything(spec) == expected
    assert len(looked) == 2 * 4 + 12  # it was opened twice


def test_a_length_on_record_that_is_wrong_is_reported_and_not_read_past(specs, tmp_path, caplog):
    copied(specs, "webdataset", tmp_path / "a")
    sizes = {"00000.tar": LENGTHS[0] + 2, "00001.tar": LENGTHS[1] - 1}
    (tmp_path / "a" / "sizes.json").write_text(json.dumps(sizes))
    good = everything(specs["webdataset"])
    expected = [*good[: LENGTHS[0]], None, None, *good[LENGTHS[0] : sum(LENGTHS[:2]) - 1]]
    assert everything(f"webdataset:{tmp_path}/a/{{00000,00001}}.tar") == expected
    messages = [record.getMessage() for record in caplog.records]
    wrong = [m for m in messages if "are on record" in m]
    assert len(wrong) == 2  # once for each file
    assert f"has {LENGTHS[0]} samples, {LENGTHS[0] + 2} are on record, and what is miss" in wrong[0]
    assert "and the rest is not read: correct or remove its entry in sizes.json" in wrong[1]


@pytest.mark.parametrize(
    ("name", "content", "warning"),
    [
        ("sizes.json", "{", "sizes.json is not JSON .* and is not used: correct or remove it"),
        ("sizes.json", '{"00000.tar": -1}', "lengths are no counts .* -1 of 00000.tar"),
        ("00000_stats.json", '{"successes": "x"}', r"record in \*_stats.json is no count.*'x'"),
    ],
)
def test_a_record_that_cannot_be_used_is_reported(specs, tmp_path, caplog, name, content, warning):
    copied(specs, "webdataset", tmp_path / "a")
    (tmp_path / "a" / name).write_text(content)
    source = sources.open(f"webdataset:{tmp_path}/a/*.tar", "train")
    assert source.num_examples == sum(LENGTHS)
    assert any(re.search(warning, record.getMessage()) for record in caplog.records)


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
    files = storage.expand("memory://many/{00000..00049}.tar", "webdataset")
    assert [shard.length for shard in index.shards(files, None)[0]] == [10] * count
    assert len(requests) < 10


def test_a_shard_in_a_bucket_is_counted_by_large_reads_and_only_its_beginning_is_looked_at(
    tmp_path, monkeypatch, bucket
):
    count, read = 500, 1 << 18  # bytes
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for number in range(count):
            writers.add(tar, f"{number}.jpg", bytes(1_000))
            writers.add(tar, f"{number}.txt", b"a caption")
    content = (tmp_path / "a.tar").read_bytes()
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        for _ in range(count):
            writer.write(bytes(1_000))
    bucket.put("data", {"a.tfrecord": (tmp_path / "a.tfrecord").read_bytes()})
    bucket.put("data", {f"{n}.tar": content for n in range(4)})
    bucket.put("data", {"sizes.json": json.dumps({f"{n}.tar": count for n in range(4)}).encode()})
    monkeypatch.setattr(storage, "SCANNED", read)
    monkeypatch.setattr(sources.webdataset, "_LOOKED_AT", read // 2)

    def reads() -> int:
        gets = [path for method, path in bucket.requests if path.endswith("alt=media")]
        bucket.requests.clear()
        return len(gets)

    assert len(sources.tar.scan(f"{BUCKET}/0.tar").table) == count
    assert len(bucket.requests) < 10 and reads() == -(-len(content) // read)
    assert len(sources.tfrecord.offsets(f"{BUCKET}/a.tfrecord")) == count
    assert len(bucket.requests) < 10 and reads() <= 3
    source = sources.open(f"webdataset:{BUCKET}/*.tar", "train")
    assert source.num_examples == 4 * count and source.has_captions
    assert reads() <= 4 + 2  # the shards, and the index and lengths beside them


def test_counting_that_was_cut_off_is_gone_on_with(specs, tmp_path, monkeypatch):
    """So it is for what another host has counted."""
    folder = tmp_path / "a"
    copied(specs, "webdataset", folder)
    shutil.rmtree(folder / index.NAME, ignore_errors=True)
    (folder / f"{index.NAME}.json").unlink(missing_ok=True)
    monkeypatch.setattr(index, "_THREADS", 1)
    files, looked = storage.expand(f"{folder}/*.tar", "webdataset"), []
    paths = [file.path for file in files]

    def scan(path):
        looked.append(path)
        if len(looked) == 3:
            raise KeyboardInterrupt
        return sources.tar.scan(path)

    with pytest.raises(KeyboardInterrupt):
        index.shards(files, scan)
    before = len(looked)
    shards, names = index.shards(files, scan)
    assert [shard.length for shard in shards] == list(LENGTHS)
    assert paths[2] in looked[before:] and not {*paths[:2]} & {*looked[before:]}
    assert set(names) == set(paths) and all(names.values())

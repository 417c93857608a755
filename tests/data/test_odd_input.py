"""Bad and odd records of each format: one costs itself only, and what is no text is no caption.

The inputs are made here; their kinds come from public bug reports of this field.
"""

import csv
import gzip
import io
import json
import os
import tarfile

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from PIL import Image
from pyarrow import parquet

from clipa_jax.data import pipeline, sources
from clipa_jax.errors import DataError
from clipa_jax.preprocess import decode
from tests.data.conftest import everything, picture, sample, settings, write_tfds
from tests.helpers import writers

PICTURE = picture(1)
TEXTS = "decode|resize(8)|choose_caption|hash_caption"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Indexes that cannot be kept beside the data go here."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def write_tar(path, members) -> str:
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            writers.add(tar, name, content.encode() if isinstance(content, str) else content)
    return f"webdataset:{path}"


def write_json_tar(folder, documents) -> str:
    members = []
    for number, document in enumerate(documents):
        members += [(f"{number:04d}.png", PICTURE), (f"{number:04d}.json", document)]
    return write_tar(folder / "0.tar", members)


def write_records(path, features: list[dict]) -> str:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for values in features:
            feature = {
                name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
                for name, value in values.items()
            }
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())
    return f"tfrecord:{path}"


def write_pictures(folder, names) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(PICTURE)


def captions(spec) -> list[list[str] | None]:
    return [sample and sample["captions"] for sample in everything(spec)]


def skipped(spec, number: int) -> dict[str, int]:
    """What training skips of `number` samples, by reason."""
    config = settings(spec, preprocess=TEXTS, batch_size=number, lanes=1, max_skip_percent=99.0)
    data = pipeline.train(config, seed=0)
    next(data.start())
    return data.skipped()


# A problem in one sample costs that sample only.


def test_half_a_surrogate_pair_in_json_is_mended(tmp_path):
    documents = [json.dumps({"caption": f"caption {n}"}) for n in range(100)]
    documents[70] = '{"caption": "sun \\ud83d"}'
    texts = captions(write_json_tar(tmp_path, documents))
    assert texts[70] == ["sun \ufffd"]
    assert texts[:70] + texts[71:] == [[f"caption {n}"] for n in range(100) if n != 70]


def test_deeply_nested_json_costs_its_own_caption(tmp_path):
    texts = captions(write_json_tar(tmp_path, ["[" * 100_000, '{"caption": "b"}']))
    assert texts == [[""], ["b"]]


def test_a_nul_in_a_path_costs_its_own_picture(tmp_path):
    write_pictures(tmp_path, ["b.png"])
    rows = [{"file_name": "a\0.png", "text": "a"}, {"file_name": "b.png", "text": "b"}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert skipped(f"folder:{tmp_path}/t.jsonl", 2) == {"missing_key": 1}


def test_text_of_parquet_that_is_not_utf8_is_mended(tmp_path):
    buffers = pa.array([b"caf\xe9", b"good"], pa.binary()).buffers()
    texts = pa.StringArray.from_buffers(2, buffers[1], buffers[2])
    parquet.write_table(
        pa.table({"image": [PICTURE] * 2, "caption": texts}), tmp_path / "0.parquet"
    )
    source = sources.open(f"parquet:{tmp_path}/0.parquet", "train")
    records = list(source.read(*(tf.constant(n, tf.int64) for n in (0, 0, 2))))
    assert [record[1].numpy() for record in records] == [b"caf\xe9", b"good"]


def test_an_error_in_one_record_leaves_the_rest_of_its_chunk(tmp_path, monkeypatch):
    write_pictures(tmp_path, [f"{n}.png" for n in range(5)])
    source = sources.open(f"folder:{tmp_path}", "train")
    record = source.record

    def fail(shard, item):
        if item == 2:
            raise OverflowError("too large")
        return record(shard, item)

    monkeypatch.setattr(source, "record", fail)
    places = tf.range(5, dtype=tf.int64)
    names = source.fetch(tf.zeros_like(places), places)[:, 2].numpy().tolist()
    assert names == [b"0.png", b"1.png", b"", b"3.png", b"4.png"]


def test_a_first_record_without_a_caption_does_not_decide_for_all(tmp_path):
    rows = [{"jpg": PICTURE}, *({"jpg": PICTURE, "txt": b"caption"} for _ in range(3))]
    texts = captions(write_records(tmp_path / "0.tfrecord", rows))
    assert texts == [[], ["caption"], ["caption"], ["caption"]]


def test_a_number_in_the_first_record_hides_no_captions(tmp_path):
    number = tf.train.Feature(int64_list=tf.train.Int64List(value=[5]))
    image = tf.train.Feature(bytes_list=tf.train.BytesList(value=[PICTURE]))
    first = tf.train.Example(features=tf.train.Features(feature={"jpg": image, "txt": number}))
    write_records(tmp_path / "1.tfrecord", [{"jpg": PICTURE, "txt": b"caption"}])
    with tf.io.TFRecordWriter(str(tmp_path / "0.tfrecord")) as writer:
        writer.write(first.SerializeToString())
    assert sources.open(f"tfrecord:{tmp_path}/*.tfrecord", "train").has_captions


def test_a_damaged_first_record_does_not_decide_for_all(tmp_path):
    spec = write_records(tmp_path / "0.tfrecord", [{"jpg": PICTURE, "txt": b"caption"}] * 4)
    content = bytearray((tmp_path / "0.tfrecord").read_bytes())
    content[40] ^= 255
    (tmp_path / "0.tfrecord").write_bytes(content)
    assert captions(spec) == [None, ["caption"], ["caption"], ["caption"]]


def test_records_may_name_their_pictures_differently(tmp_path):
    rows = [{"png": PICTURE, "txt": b"a"}, {"jpg": PICTURE, "caption": b"b"}]
    spec = write_records(tmp_path / "0.tfrecord", rows)
    assert [(s["image"], s["captions"]) for s in everything(spec)] == [
        (PICTURE, ["a"]),
        (PICTURE, ["b"]),
    ]


def test_a_first_row_without_a_caption_does_not_decide_for_the_table(tmp_path):
    write_pictures(tmp_path, ["0.png", "1.png"])
    (tmp_path / "t.jsonl").write_text('{"file_name": "0.png"}\n{"file_name": "1.png", "text": "b"}')
    assert captions(f"folder:{tmp_path}/t.jsonl") == [[""], ["b"]]


@pytest.mark.parametrize("options", ["GZIP", "ZLIB"])
def test_a_compressed_tfrecord_file_is_named_as_such(tmp_path, options):
    with tf.io.TFRecordWriter(str(tmp_path / "0.tfrecord"), options) as writer:
        writer.write(b"x" * 1000)
    with pytest.raises(DataError, match=f"is compressed \\({options.lower()}\\)"):
        sources.open(f"tfrecord:{tmp_path}/0.tfrecord", "train")


def test_a_compressed_tar_is_named_as_such(tmp_path):
    write_tar(tmp_path / "0.tar", [("0.png", PICTURE)])
    (tmp_path / "1.tar").write_bytes(gzip.compress((tmp_path / "0.tar").read_bytes()))
    with pytest.raises(DataError, match="1.tar is compressed \\(gzip\\)"):
        sources.open(f"webdataset:{tmp_path}/1.tar", "train")


def test_a_source_without_captions_is_refused_before_anything_is_traced(tmp_path):
    write_pictures(tmp_path, ["a.png", "b.png"])
    with pytest.raises(DataError, match="no captions among the features"):
        pipeline.train(settings(f"folder:{tmp_path}", preprocess=TEXTS), seed=0)


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


# What is no text is no caption.

NO_TEXT = [{"en": "a cube"}, [{"en": "a cube"}], 5, True, float("nan"), None, [], "", [None, 1.5]]


@pytest.mark.parametrize("value", NO_TEXT, ids=str)
def test_a_value_that_is_no_text_is_no_caption(tmp_path, value):
    spec = write_json_tar(tmp_path, [json.dumps({"caption": value}), '{"caption": "b"}'])
    assert captions(spec) == [[""], ["b"]]


@pytest.mark.parametrize("value", NO_TEXT, ids=str)
def test_the_next_name_is_tried_where_the_first_has_no_text(tmp_path, value):
    document = json.dumps({"captions": value, "text": "found"})
    assert captions(write_json_tar(tmp_path, [document])) == [["found"]]
    write_pictures(tmp_path, ["0.png"])
    row = {"file_name": "0.png", "captions": value, "text": "found"}
    (tmp_path / "t.jsonl").write_text(json.dumps(row))
    assert captions(f"folder:{tmp_path}/t.jsonl") == [["found"]]


def test_text_inside_objects_is_found_under_the_usual_names(tmp_path):
    document = json.dumps({"captions": [{"caption": "a", "id": 1}, {"text": "b"}, "c"]})
    assert captions(write_json_tar(tmp_path, [document])) == [["a", "b", "c"]]


def test_text_files_of_windows_editors_are_read(tmp_path):
    write_pictures(tmp_path, ["0.png", "1.png", "2.png", "3.png"])
    (tmp_path / "0.txt").write_bytes("a caf\u00e9".encode("utf-8-sig"))
    (tmp_path / "1.txt").write_bytes("a caf\u00e9".encode("utf-16"))
    (tmp_path / "2.json").write_bytes('{"caption": "a caf\u00e9"}'.encode("utf-8-sig"))
    (tmp_path / "3.json").write_bytes('{"caption": "a caf\u00e9"}'.encode("latin-1"))
    texts = captions(f"folder:{tmp_path}")
    assert texts == [["a caf\u00e9"]] * 3 + [["a caf\ufffd"]]


def test_a_missing_or_broken_number_leaves_a_column_numeric(tmp_path):
    write_pictures(tmp_path, ["0.png", "1.png"])
    rows = [{"path": "0.png", "label": 3, "x": 1.5}, {"path": "1.png", "x": 2}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    samples = everything(f"folder:{tmp_path}/t.jsonl", ("label", "x"))
    assert [(s["label"], s["x"]) for s in samples] == [(3, 1.5), (-1, 2.0)]


def test_a_blank_member_or_file_hides_no_other(tmp_path):
    members = [("0.png", PICTURE), ("0.txt", " \n"), ("0.json", '{"caption": "found"}')]
    assert captions(write_tar(tmp_path / "0.tar", members)) == [["found"]]
    for name, content in members:
        path = tmp_path / "folder" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert captions(f"folder:{tmp_path}/folder") == [["found"]]


def test_a_blank_feature_hides_no_other(tmp_path):
    rows = [{"jpg": PICTURE, "caption": b" ", "text": b"a"}, {"jpg": PICTURE, "caption": b"b"}]
    spec = write_records(tmp_path / "0.tfrecord", rows)
    assert captions(spec) == [["a"], ["b"]]
    assert skipped(spec, 2) == {}


# Arrow types.

STRINGS = pa.array(["one", "two"])
TEXT_TYPES = {
    "dictionary": STRINGS.dictionary_encode(),
    "large": STRINGS.cast(pa.large_string()),
    "view": STRINGS.cast(pa.string_view()),
    "binary": STRINGS.cast(pa.binary()),
    "list": pa.array([["one"], ["two"]]),
    "large list": pa.array([["one"], ["two"]], pa.large_list(pa.string())),
    "fixed-size list": pa.array([["one"], ["two"]], pa.list_(pa.string(), 1)),
    "struct": pa.array([{"text": "one"}, {"text": "two"}]),
}
BYTES = pa.array([PICTURE, PICTURE])
PICTURE_TYPES = {
    "large": BYTES.cast(pa.large_binary()),
    "view": BYTES.cast(pa.binary_view()),
    "fixed-size": pa.array([PICTURE, PICTURE], pa.binary(len(PICTURE))),
    "dictionary": BYTES.dictionary_encode(),
    "list of bytes": pa.array([list(PICTURE)] * 2, pa.list_(pa.uint8())),
    "struct": pa.array([{"bytes": PICTURE, "path": "a.png"}] * 2),
}


@pytest.mark.parametrize("kind", TEXT_TYPES)
def test_arrow_types_of_text(tmp_path, kind):
    table = pa.table({"image": BYTES, "caption": TEXT_TYPES[kind]})
    parquet.write_table(table, tmp_path / "0.parquet")
    assert captions(f"parquet:{tmp_path}/0.parquet") == [["one"], ["two"]]


@pytest.mark.parametrize("kind", PICTURE_TYPES)
def test_arrow_types_of_pictures(tmp_path, kind):
    table = pa.table({"image": PICTURE_TYPES[kind], "caption": STRINGS})
    parquet.write_table(table, tmp_path / "0.parquet")
    samples = everything(f"parquet:{tmp_path}/0.parquet")
    assert [s["image"] for s in samples] == [PICTURE, PICTURE]


def test_a_column_of_another_type_is_named_with_it(tmp_path):
    table = pa.table({"image": pa.array([1, 2]), "caption": STRINGS})
    parquet.write_table(table, tmp_path / "0.parquet")
    with pytest.raises(DataError, match="columns image \\(int64\\), caption \\(string\\)"):
        sources.open(f"parquet:{tmp_path}/0.parquet", "train")


def test_a_caption_of_a_type_without_text_is_named_with_it(tmp_path):
    texts = pa.array([[("text", "a")], []], pa.map_(pa.string(), pa.string()))
    parquet.write_table(pa.table({"image": BYTES, "caption": texts}), tmp_path / "0.parquet")
    config = settings(f"parquet:{tmp_path}/0.parquet", preprocess=TEXTS)
    with pytest.raises(DataError, match="no captions.*no text is in caption .map<string, string"):
        pipeline.train(config, seed=0)


def test_a_column_that_occurs_twice_is_an_error(tmp_path):
    table = pa.table([BYTES, STRINGS, STRINGS], names=["image", "caption", "caption"])
    parquet.write_table(table, tmp_path / "0.parquet")
    with pytest.raises(DataError, match="0.parquet has several columns 'caption'"):
        sources.open(f"parquet:{tmp_path}/0.parquet", "train")


def test_parquet_files_may_name_their_columns_differently(tmp_path):
    for name in ("caption", "TEXT"):
        parquet.write_table(pa.table({"image": BYTES, name: STRINGS}), tmp_path / f"{name}.parquet")
    assert captions(f"parquet:{tmp_path}/*.parquet") == [["one"], ["two"]] * 2


# Tables.


def test_a_quotation_mark_that_is_not_closed_stays_in_its_row_of_a_tsv(tmp_path):
    write_pictures(tmp_path, [f"{n}.png" for n in range(8)])
    rows = [f"{n}.png\tcaption {n}" for n in range(8)]
    rows[3], rows[6] = '3.png\t"Best day ever', '6.png\tcaption"'
    (tmp_path / "t.tsv").write_text("filepath\ttitle\n" + "\n".join(rows) + "\n")
    texts = captions(f"folder:{tmp_path}/t.tsv")
    assert len(texts) == 8
    assert (texts[3], texts[4], texts[6]) == (['"Best day ever'], ["caption 4"], ['caption"'])


def test_quotes_of_a_tsv_that_close_are_removed(tmp_path):
    write_pictures(tmp_path, ["0.png"])
    (tmp_path / "t.tsv").write_text('filepath\ttitle\n0.png\t"a ""b"" c"\n')
    assert captions(f"folder:{tmp_path}/t.tsv") == [['a "b" c']]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", 'path,text\n0.png,a\n1.png,"b\n2.png,c\n', "line 3: unexpected end of data"),
        ("t.csv", "path,text\n0.png,a\n1.png,b,c\n", "line 3: came 3 fields, expected 2"),
        ("t.csv", "path,text\n0.png,a\n1.png\n", "line 3: came 1 fields, expected 2"),
        ("t.tsv", "path\ttext\n0.png\ta\tb\n", "line 2: came 3 fields, expected 2"),
        ("t.csv", "path,text,text\n0.png,a,b\n", "line 1: a column occurs twice"),
        ("t.jsonl", '{"path": "a"}\n' + "[" * 100_000, "line 2: "),
    ],
)
def test_a_broken_row_of_a_table_is_an_error_with_its_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        sources.open(f"folder:{tmp_path}/{name}", "train")


def test_blanks_around_the_names_of_columns_do_not_matter(tmp_path):
    write_pictures(tmp_path, ["0.png"])
    (tmp_path / "t.csv").write_text("file_name, caption\n0.png,a\n")
    assert captions(f"folder:{tmp_path}/t.csv") == [["a"]]


def test_a_file_that_is_no_table_is_named_as_what_it_is(tmp_path):
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"file_name,caption\n"))
    (tmp_path / "t.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match="t.csv.gz is compressed .gzip."):
        sources.open(f"folder:{tmp_path}/t.csv.gz", "train")
    with pytest.raises(DataError, match="a file, but no table; expected a folder or .csv"):
        sources.open(f"folder:{tmp_path}/t.xlsx", "train")


def test_a_number_of_more_than_64_bits_is_a_missing_one(tmp_path):
    members = [("0.png", PICTURE), ("0.cls", "9" * 20), ("1.png", PICTURE), ("1.cls", "7")]
    spec = write_tar(tmp_path / "0.tar", members)
    assert [sample["cls"] for sample in everything(spec, ("cls",))] == [-1, 7]


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_transparent_color_of_a_png_is_white(mode):
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    image = Image.fromarray(pixels).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=image.getpixel((1, 2)))
    shown = decode.any_format(tf.constant(buffer.getvalue())).numpy()
    expected = np.array(image.convert("RGB"))
    expected[2, 1] = 255
    np.testing.assert_array_equal(shown, expected)


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_a_field_of_a_table_may_have_any_length(tmp_path, suffix):
    write_pictures(tmp_path, ["0.png"])
    with (tmp_path / f"t.{suffix}").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="," if suffix == "csv" else "\t")
        writer.writerows([["path", "text"], ["0.png", 'a "b", ' * 50_000]])
    (texts,) = captions(f"folder:{tmp_path}/t.{suffix}")
    assert texts == ['a "b", ' * 50_000]


# Files and folders.


def test_hidden_files_are_no_samples(tmp_path):
    hidden = ["._a.png", ".ipynb_checkpoints/a.png", "__MACOSX/a.png", "@eaDir/a.png"]
    write_pictures(tmp_path, ["a.png", *hidden, "sub/b.png", "sub/._b.png"])
    ids = [s["id"] for s in everything(f"folder:{tmp_path}")]
    assert ids == [b"a.png", b"sub/b.png"]


def test_hidden_folders_are_no_classes(tmp_path):
    write_pictures(tmp_path, ["cat/a.png", ".ipynb_checkpoints/a.png", "__MACOSX/cat/._a.png"])
    assert sources.open(f"class_folders:{tmp_path}", "all").class_names("label") == ["cat"]


def test_usual_suffixes_of_pictures_are_known_in_any_case(tmp_path):
    write_pictures(tmp_path, ["a.JFIF", "b.jpe", "c.PNG", "d.Jpeg", "notapng", "e.heic"])
    ids = [s["id"] for s in everything(f"folder:{tmp_path}")]
    assert ids == [b"a.JFIF", b"b.jpe", b"c.PNG", b"d.Jpeg"]


def test_suffixes_of_pictures_in_a_tar_are_known_in_any_case(tmp_path):
    names = ["a.JFIF", "b.jpe", "c.PNG"]
    samples = everything(write_tar(tmp_path / "0.tar", [(name, PICTURE) for name in names]))
    assert [s["image"] for s in samples] == [PICTURE] * 3


def test_a_class_folder_without_pictures_stays_a_class(tmp_path):
    write_pictures(tmp_path, ["a/1.png", "c/1.png"])
    (tmp_path / "b").mkdir()
    assert sources.open(f"class_folders:{tmp_path}", "all").class_names("label") == ["a", "b", "c"]
    labels = [s["label"] for s in everything(f"class_folders:{tmp_path}", ("label",), "all")]
    assert labels == [0, 2]


def test_a_link_to_its_own_folder_ends(tmp_path):
    write_pictures(tmp_path, ["real/a.png", "b.png"])
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    ids = [s["id"] for s in everything(f"folder:{tmp_path}")]
    assert ids == [b"b.png", b"link/a.png", b"real/a.png"]


def test_a_file_name_that_is_not_utf8_is_read(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    with open(name, "wb") as file:
        file.write(PICTURE)
    (found,) = everything(f"folder:{tmp_path}")
    assert (found["id"], found["image"]) == (b"caf\xe9.png", PICTURE)


def test_class_folders_have_captions_from_templates(tmp_path):
    write_pictures(tmp_path, ["fire_truck/a.png"])
    (found,) = everything(f"class_folders:{tmp_path}", split="all")
    assert "a photo of a fire truck." in found["captions"]
    (tmp_path / "templates.txt").write_text("the {}\nmany {}s\n")
    (found,) = everything(f"class_folders:{tmp_path}", split="all")
    assert found["captions"] == ["the fire truck", "many fire trucks"]


# Tars.


def test_hidden_members_are_no_samples(tmp_path):
    names = ["./a.png", "._a.png", "__MACOSX/._a.png", ".ipynb_checkpoints/a.png", "@eaDir/a.png"]
    members = [(name, PICTURE) for name in names]
    assert sources.open(write_tar(tmp_path / "0.tar", members), "train").num_examples == 1


def test_members_that_repeat_a_key_are_an_error(tmp_path):
    members = [m for n in range(12) for m in (("image.png", PICTURE), ("image.txt", f"{n}"))]
    with pytest.raises(DataError, match="22 members repeat the key .* the first is image.png"):
        sources.open(write_tar(tmp_path / "0.tar", members), "train")


def test_members_of_a_key_that_are_apart_are_an_error(tmp_path):
    members = [(f"{n}.png", PICTURE) for n in range(8)] + [(f"{n}.txt", "a") for n in range(8)]
    with pytest.raises(DataError, match="8 members are apart .* the first is 0.txt"):
        sources.open(write_tar(tmp_path / "0.tar", members), "train")


def test_a_single_member_apart_is_a_warning(tmp_path, caplog):
    members = [m for n in range(200) for m in ((f"{n}.png", PICTURE), (f"{n}.txt", "a"))]
    source = sources.open(write_tar(tmp_path / "0.tar", [*members, ("3.json", "{}")]), "train")
    assert source.num_examples == 201
    assert any("3.json" in record.getMessage() for record in caplog.records)

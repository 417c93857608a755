"""What is no text is no caption, and no record decides for the others, in JSON, text files and
TFRecord files."""

import json

import tensorflow as tf

from clipa_jax.data import sources
from tests.data.conftest import everything, example
from tests.helpers.odd_data import (
    PICTURE,
    captions,
    counted,
    skipped,
    write_json_tar,
    write_pictures,
    write_records,
    write_tar,
)


def test_half_a_surrogate_pair_in_json_is_mended(tmp_path):
    documents = [json.dumps({"caption": f"caption {n}"}) for n in range(100)]
    documents[70] = '{"caption": "sun \\ud83d"}'
    texts = captions(write_json_tar(tmp_path, documents))
    assert texts[70] == ["sun \ufffd"]
    assert texts[:70] + texts[71:] == [[f"caption {n}"] for n in range(100) if n != 70]


def test_deeply_nested_json_costs_its_own_caption(tmp_path):
    texts = captions(write_json_tar(tmp_path, ["[" * 100_000, '{"caption": "b"}']))
    assert texts == [[""], ["b"]]


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


def test_records_may_name_their_pictures_differently(tmp_path):
    rows = [{"png": PICTURE, "txt": b"a"}, {"jpg": PICTURE, "caption": b"b"}]
    spec = write_records(tmp_path / "0.tfrecord", rows)
    assert [(s["image"], s["captions"]) for s in everything(spec)] == [
        (PICTURE, ["a"]),
        (PICTURE, ["b"]),
    ]


NO_TEXT = [{"en": "a cube"}, [{"en": "a cube"}], 5, True, float("nan"), None, [], "", [None, 1.5]]


def test_a_value_that_is_no_text_is_no_caption(tmp_path):
    documents = [json.dumps({"caption": value}) for value in NO_TEXT]
    texts = captions(write_json_tar(tmp_path, [*documents, '{"caption": "b"}']))
    assert texts == [[""]] * len(NO_TEXT) + [["b"]]


def test_the_next_name_is_tried_where_the_first_has_no_text(tmp_path):
    rows = [{"file_name": "0.png", "captions": value, "text": "found"} for value in NO_TEXT]
    documents = [json.dumps(row) for row in rows]
    assert captions(write_json_tar(tmp_path, documents)) == [["found"]] * len(rows)
    write_pictures(tmp_path, ["0.png"])
    (tmp_path / "t.jsonl").write_text("\n".join(documents))
    assert captions(f"folder:{tmp_path}/t.jsonl") == [["found"]] * len(rows)


def test_a_feature_of_another_type_is_a_missing_one(tmp_path):
    """In `tf.train.Example`, whose features have a type in each record."""
    rows = [example({"image": PICTURE, "captions": [f"{n}"], "label": 1}) for n in range(20)]
    other = {"captions": {"captions": 5}, "label": {"label": ["x"]}, "both": {"label": [1, 2]}}
    rows += [example({"image": PICTURE, "captions": ["a"], "label": 1} | o) for o in other.values()]
    rows.append(example({"image": 5, "captions": ["a"], "label": 1}))
    with tf.io.TFRecordWriter(str(tmp_path / "0.tfrecord")) as writer:
        for row in rows:
            writer.write(row.SerializeToString())
    spec = f"tfrecord:{tmp_path}/0.tfrecord"
    good = [""] * 20
    counted(spec, [*good, "empty_caption", "", "", "missing_key"])
    counted(spec, [*good, "", "", "", "missing_key"], preprocess="decode|resize(8)")
    found = everything(spec, ("label",))[20:]
    assert [(s["captions"], s["label"]) for s in found] == [
        ([], 1),
        (["a"], -1),
        (["a"], -1),
        (["a"], 1),
    ]


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

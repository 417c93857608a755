"""A bad sample costs itself only, and is counted by reason (docs/data.md).

n samples of a file; every fault stands among good samples, which keep their places.
"""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from clipa_jax.data import bad_samples, map_chunk, pipeline, reading, robust_map, sources
from clipa_jax.errors import DataError
from clipa_jax.preprocess import registry
from tests.data.conftest import numbers, sample, settings, write_tfrecords
from tests.helpers import writers
from tests.helpers.odd_data import TEXTS, counted, skipped, write_one_by_one, write_pictures
from tests.helpers.pictures import encoded


def test_a_bad_sample_changes_no_other(tmp_path):
    """A chunk of good samples is prepared in one loop, one with a bad sample one by one."""
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, 256, (40, 60, 3), np.uint8) for _ in range(4)]
    images = [encoded("PNG", picture) for picture in pictures]
    quick = counted(write_one_by_one(tmp_path / "a", images), [""] * 4)
    careful = counted(write_one_by_one(tmp_path / "b", [*images, b"x"]), [""] * 4 + ["decode"])
    np.testing.assert_array_equal(careful["image"][:4], quick["image"])
    np.testing.assert_array_equal(careful["image"][4], quick["image"][3])


def test_only_a_chunk_with_a_bad_sample_is_prepared_twice(tmp_path, monkeypatch):
    looks = []

    def look(sample):
        def count(image):
            looks.append(1)
            return image

        image = tf.numpy_function(count, [sample["image"]], tf.uint8)
        return {**sample, "image": tf.ensure_shape(image, (8, 8, 3))}

    monkeypatch.setitem(registry.OPS, "look", registry.Op(lambda: look))
    spec = write_one_by_one(tmp_path, [encoded("PNG")] * 7 + [b"x"])
    source, share = sources.open(spec, "train"), reading.Share(4, 0, 4, 4)
    process, _ = robust_map.chunk_function(
        source, "decode|resize(8)|look", size=4, seed=0, keep=("image",)
    )
    done = list(process(reading.once(source, share).take(1)))
    assert len(done) == 1 and len(looks) == 4
    done = list(process(reading.once(source, share).skip(1).take(1)))
    assert len(done) == 1 and len(looks) == 4 + 3 + 3
    assert done[0][map_chunk.REASON].numpy().tolist() == [
        0,
        0,
        0,
        bad_samples.REASONS.index("decode"),
    ]


def test_captions(tmp_path):
    captions = [
        "",
        " \t\n",
        ["", " "],
        None,
        b"\xff\xfe bad \xe9",
        "x" * 200_000,
        ["", "second"],
        "a\0b",
    ]
    spec = write_one_by_one(tmp_path, [sample(0)["image"]] * len(captions), captions)
    blank = "empty_caption"
    vocab = Path(__file__).parents[2] / "data" / "emoji" / "vocab.txt"
    ops = f"decode|resize(8)|choose_caption|tokenize(8, '{vocab}')"
    done = counted(spec, [blank] * 4 + [""] * 4, preprocess=ops)
    assert (done["tokens"].numpy()[4:, 0] > 0).all()


def test_mended_captions():
    texts = [b"caf\xc3\xa9", b"caf\xe9 bar", b"\xff\xfe", "é".encode() * bad_samples.CAPTION_BYTES]
    found = [text.decode() for text in bad_samples.valid_utf8(tf.constant(texts)).numpy()]
    assert found[:3] == ["café", "caf\ufffd bar", "\ufffd\ufffd"]
    assert found[3] == "é" * (bad_samples.CAPTION_BYTES // 2)


def test_missing_keys_in_every_format(tmp_path):
    rows = [sample(number) for number in range(5)]
    rows[1]["image"], rows[3]["captions"] = None, None
    expected = ["", "missing_key", "", "empty_caption", ""]
    counted(write_tfrecords(tmp_path / "a", rows, (5,)), expected)
    counted(writers.write_tars(tmp_path / "b", rows, (5,)), expected)
    flat = [{**row, "captions": row["captions"] or []} for row in rows]
    counted(writers.write_parquet(tmp_path / "c", flat, (5,)), expected)
    table = tmp_path / "d" / "t.jsonl"
    table.parent.mkdir()
    (table.parent / "a.png").write_bytes(rows[0]["image"])
    names = ["a.png", "gone.png", "a.png", "a.png", None]
    lines = [{"file_name": n, "caption": "" if i == 3 else "c"} for i, n in enumerate(names)]
    table.write_text("".join(json.dumps(line) + "\n" for line in lines))
    counted(f"folder:{table}", ["", "missing_key", "", "empty_caption", "missing_key"])


def test_empty_shards_among_others(tmp_path):
    rows = [sample(number) for number in range(8)]
    (tmp_path / "a").mkdir()
    spec = write_tfrecords(tmp_path / "r", rows, (0, 5, 0, 3))
    batches = pipeline.train_data(settings(spec, batch_size=4, lanes=2), seed=0).start()
    two = [numbers(batch["image"]) for batch, _ in itertools.islice(batches, 2)]
    assert sorted(sum(two, [])) == list(range(8))
    writers.write_tars(tmp_path / "t", rows, (0, 5, 0, 3))
    (tmp_path / "t" / "00000.tar").write_bytes(b"")  # no bytes at all
    assert sources.open(f"webdataset:{tmp_path}/t/*.tar", "").num_examples == 8


def test_the_first_few_are_named_and_too_many_stop_the_run(tmp_path, caplog):
    rows = [sample(number) for number in range(40)]
    for number in range(0, 40, 4):
        rows[number]["image"] = b"junk"
    spec = writers.write_tars(tmp_path, rows, (40,))
    config = settings(spec, batch_size=8, lanes=1, shuffle_window=1, max_skip_percent=20.0)
    with pytest.raises(
        DataError, match=r"max_skip_percent=20.0.*'decode': 10.*sample 0 \(decode\)"
    ):
        list(itertools.islice(pipeline.train_data(config, seed=0).start(), 5))
    named = [r.getMessage() for r in caplog.records if r.getMessage().startswith("skipped")]
    assert len(named) == 5 and f"{tmp_path}/00000.tar sample 4 (decode)" in named[1]


def test_an_error_in_one_record_leaves_the_rest_of_its_chunk(tmp_path, monkeypatch):
    write_pictures(tmp_path, [f"{n}.png" for n in range(5)])
    source = sources.open(f"folder:{tmp_path}", "train")
    record = source.record

    def fail(item):
        if item == 2:
            raise OverflowError("too large")
        return record(item)

    monkeypatch.setattr(source, "record", fail)
    places = tf.range(5, dtype=tf.int64)
    names = source.fetch(tf.zeros_like(places), places)[:, 2].numpy().tolist()
    assert names == [b"0.png", b"1.png", b"", b"3.png", b"4.png"]


def test_a_source_without_captions_is_refused_before_anything_is_traced(tmp_path):
    write_pictures(tmp_path, ["a.png", "b.png"])
    with pytest.raises(DataError, match="no captions among the features"):
        pipeline.train_data(settings(f"folder:{tmp_path}", preprocess=TEXTS), seed=0)


def test_a_nul_in_a_path_costs_its_own_picture(tmp_path):
    write_pictures(tmp_path, ["b.png"])
    rows = [{"file_name": "a\0.png", "text": "a"}, {"file_name": "b.png", "text": "b"}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert skipped(f"folder:{tmp_path}/t.jsonl", 2) == {"missing_key": 1}

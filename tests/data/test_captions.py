"""Which field is the caption, and how captions are cleaned."""

import itertools
import json

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from pyarrow import parquet

from clipa_jax.data import eval_batches, pipeline, sources
from clipa_jax.errors import ConfigError, DataError
from clipa_jax.preprocess import registry
from tests.data.conftest import everything, picture, settings
from tests.helpers.odd_data import write_records, write_tar

SHARES = {"re_caption": 0.7, "text": 0.3}
TEXTS = "decode|resize(8)|choose_caption|hash_caption"


def fields(number: int) -> dict[str, str]:
    return {"re_caption": f"re {number}", "text": f"text {number}"}


def write(kind: str, folder, samples: list[dict[str, str]]) -> str:
    """Samples with fields of captions, in a format."""
    rows = list(enumerate(samples))
    if kind == "tfrecord":
        return write_records(
            folder / "a.tfrecord",
            [{"png": picture(n), **{k: v.encode() for k, v in s.items()}} for n, s in rows],
        )
    if kind in ("webdataset", "webdataset json"):
        members = []
        for n, sample in rows:
            members.append((f"{n:04d}.png", picture(n)))
            texts = {"json": json.dumps(sample)} if "json" in kind else sample
            members += [(f"{n:04d}.{name}", text) for name, text in texts.items()]
        return write_tar(folder / "a.tar", members)
    for n, sample in rows:
        (folder / f"{n:04d}.png").write_bytes(picture(n))
        for name, text in sample.items() if kind == "folder" else ():
            (folder / f"{n:04d}.{name}").write_text(text)
    if kind == "table":
        lines = [json.dumps({"file_name": f"{n:04d}.png", **s}) for n, s in rows]
        (folder / "metadata.jsonl").write_text("\n".join(lines))
    if kind == "parquet":
        table = [{"image": picture(n), **sample} for n, sample in rows]
        parquet.write_table(pa.Table.from_pylist(table), folder / "a.parquet")
        return f"parquet:{folder}/a.parquet"
    return f"folder:{folder}"


KINDS = ("tfrecord", "webdataset", "webdataset json", "folder", "table", "parquet")


@pytest.mark.parametrize("kind", KINDS)
def test_the_named_field_is_the_caption(kind, tmp_path):
    spec = write(kind, tmp_path, [fields(number) for number in range(3)])
    for name in ("re_caption", "text"):
        found = [sample["captions"] for sample in everything(spec, caption=name)]
        assert found == [[fields(number)[name]] for number in range(3)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_that_is_not_there_is_an_error_that_names_it(kind, tmp_path):
    spec = write(kind, tmp_path, [fields(0)])
    if kind == "webdataset json":  # which keys there are is known when a sample is read
        assert everything(spec, caption="absent")[0]["captions"] == [""]
        return
    for caption in ("absent", {"text": 1, "absent": 1}):
        config = settings(spec, preprocess=TEXTS, caption=caption, batch_size=1)
        with pytest.raises(DataError, match="no captions .*looked for.* absent"):
            pipeline.train_data(config, seed=0)


def drawn(spec, count: int, position=None, **changes) -> np.ndarray:
    """Hashes of the captions of some batches of 8."""
    config = settings(spec, preprocess=TEXTS, caption=SHARES, **changes)
    batches = pipeline.train_data(config, seed=3).start(position)
    return [(batch["caption_hash"], place) for batch, place in itertools.islice(batches, count)]


def hashes(texts: list[str]) -> set[int]:
    function = registry.build("hash_caption")
    return {int(function({"caption": tf.constant(text)})["caption_hash"]) for text in texts}


@pytest.mark.parametrize("kind", ["tfrecord", "parquet"])
def test_fields_are_drawn_by_their_shares_and_a_resumed_run_draws_the_same(kind, tmp_path):
    spec = write(kind, tmp_path, [fields(number) for number in range(40)])
    batches = drawn(spec, 100)
    found = np.concatenate([rows for rows, _ in batches]).tolist()
    re, text = (hashes([fields(n)[name] for n in range(40)]) for name in SHARES)
    assert set(found) == re | text
    share = sum(row in re for row in found) / len(found)
    assert 0.64 < share < 0.76  # 800 draws, standard deviation 0.016
    rest = drawn(spec, 5, batches[9][1])
    np.testing.assert_array_equal([r for r, _ in rest], [r for r, _ in batches[10:15]])


def test_a_sample_without_one_field_takes_the_other_and_one_without_both_is_skipped(tmp_path):
    samples = [fields(0) | {"re_caption": " "}, fields(1) | {"text": ""}, fields(2), fields(3)]
    samples += [{"re_caption": "", "text": " "}] + [fields(n) for n in range(5, 8)]
    spec = write("parquet", tmp_path, samples)
    config = settings(
        spec, preprocess=TEXTS, caption=SHARES, max_skip_percent=50.0, lanes=1, shuffle_window=1
    )
    data = pipeline.train_data(config, seed=0)
    found = [batch["caption_hash"] for batch, _ in itertools.islice(data.start(), 20)]
    assert data.skipped() == {"empty_caption": 20}
    found = set(np.concatenate(found).tolist())
    assert hashes(["text 0", "re 1"]) <= found
    assert not hashes(["re 0", "text 1"]) & found


@pytest.mark.parametrize("caption", [{}, {"a": 0.0}, {"a": -1}, {"a": "x"}, '{"a"', ["a"], 3])
def test_shares_that_are_none_are_refused(caption):
    if caption == {}:
        assert sources.Choice.of(caption).is_usual
        return
    with pytest.raises(ConfigError, match="expected the name of a field, or names with positive"):
        sources.Choice.of(caption)


def test_shares_can_be_given_on_the_command_line_as_json():
    choice = sources.Choice.of('{"re_caption": 0.7, "text": 0.3}')
    assert (choice.names, choice.weights) == (("re_caption", "text"), (0.7, 0.3))


def test_a_feature_of_tfds_can_be_named(tfds_spec):
    assert everything(tfds_spec, caption="id")[3]["captions"] == ["id3"]


# Cleaning

TYPOGRAPHIC = "\u201cA dog\u2019s&amp;amp; caf\u00c3\u00a9\u201d  in\tthe \ufb01eld"
CLEANED = '"A dog\'s& caf\u00e9" in the field'


@pytest.mark.parametrize(("clean", "text"), [("none", TYPOGRAPHIC), ("open_clip", CLEANED)])
def test_captions_are_cleaned_by_name(clean, text, tmp_path):
    spec = write("webdataset", tmp_path, [{"txt": TYPOGRAPHIC}, {"txt": " &#32; "}] * 4)
    config = settings(spec, preprocess=TEXTS, clean=clean, lanes=1, max_skip_percent=60.0)
    data = pipeline.train_data(config, seed=0)
    batch, _ = next(data.start())
    found = set(batch["caption_hash"].tolist())
    assert found == hashes([text] if clean == "open_clip" else [text, " &#32; "])
    assert data.skipped() == ({"empty_caption": 4} if clean == "open_clip" else {})


def test_an_unknown_cleaner_is_refused_with_the_nearest(tfds_spec):
    with pytest.raises(ConfigError, match="clean 'openclip'.*nearest: open_clip"):
        pipeline.train_data(settings(tfds_spec, preprocess=TEXTS, clean="openclip"), seed=0)


def test_evaluation_reads_text_as_training_does(tmp_path):
    """Latin-1 in captions and in names of files."""
    (tmp_path / "caf\u00e9.png".encode("latin-1").decode("utf-8", "surrogateescape")).write_bytes(
        picture(1)
    )
    (tmp_path / "caf\u00e9.txt".encode("latin-1").decode("utf-8", "surrogateescape")).write_bytes(
        "un caf\u00e9".encode("latin-1")
    )
    spec = f"folder:{tmp_path}"
    split = eval_batches.Split(spec, "", "decode|resize(8)", 1, features=("captions", "id"))
    (batch,) = split.batches()
    assert [text.decode() for text in batch["captions"][0]] == ["un caf\ufffd"]
    assert batch["id"][0].decode() == "caf\ufffd.png"

"""Arrow's types of text and pictures are read, or refused with name and type."""

import pyarrow as pa
import pytest
import tensorflow as tf
from pyarrow import parquet

from clipa_jax.data import pipeline, sources
from clipa_jax.errors import DataError
from tests.data.conftest import everything, settings
from tests.helpers.odd_data import PICTURE, TEXTS, captions

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


def write_files(folder, column: str, kinds: dict) -> str:
    """A file for each type of a column."""
    for number, values in enumerate(kinds.values()):
        columns = {"image": BYTES, "caption": STRINGS} | {column: values}
        parquet.write_table(pa.table(columns), folder / f"{number}.parquet")
    return f"parquet:{folder}/*.parquet"


def test_arrow_types_of_text(tmp_path):
    assert captions(write_files(tmp_path, "caption", TEXT_TYPES)) == [["one"], ["two"]] * 8


def test_arrow_types_of_pictures(tmp_path):
    samples = everything(write_files(tmp_path, "image", PICTURE_TYPES))
    assert [s["image"] for s in samples] == [PICTURE] * 12


def test_a_missing_list_of_a_fixed_size_costs_its_own_sample(tmp_path):
    pair = pa.list_(pa.string(), 2)
    texts = pa.array([["a", "b"], None, ["c", None]], pair)
    pixels = pa.array([list(PICTURE), list(PICTURE), None], pa.list_(pa.uint8(), len(PICTURE)))
    inside = pa.array(
        [{"text": ["a", "b"]}, None, {"text": ["c", "d"]}], pa.struct([("text", pair)])
    )
    parquet.write_table(
        pa.table({"image": [PICTURE] * 3, "caption": texts}), tmp_path / "0.parquet"
    )
    parquet.write_table(pa.table({"image": pixels, "caption": inside}), tmp_path / "1.parquet")
    samples = everything(f"parquet:{tmp_path}/*.parquet")
    assert [s["captions"] for s in samples] == [
        ["a", "b"],
        [""],
        ["c"],
        ["a", "b"],
        [""],
        ["c", "d"],
    ]
    assert [s["image"] for s in samples] == [PICTURE] * 5 + [b""]


def test_text_of_parquet_that_is_not_utf8_is_mended(tmp_path):
    buffers = pa.array([b"caf\xe9", b"good"], pa.binary()).buffers()
    texts = pa.StringArray.from_buffers(2, buffers[1], buffers[2])
    parquet.write_table(
        pa.table({"image": [PICTURE] * 2, "caption": texts}), tmp_path / "0.parquet"
    )
    source = sources.open(f"parquet:{tmp_path}/0.parquet", "train")
    records = list(source.read(*(tf.constant(n, tf.int64) for n in (0, 0, 2))))
    assert [record[1].numpy() for record in records] == [b"caf\xe9", b"good"]


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
        pipeline.train_data(config, seed=0)


def test_a_column_that_occurs_twice_is_an_error(tmp_path):
    table = pa.table([BYTES, STRINGS, STRINGS], names=["image", "caption", "caption"])
    parquet.write_table(table, tmp_path / "0.parquet")
    with pytest.raises(DataError, match="0.parquet has several columns 'caption'"):
        sources.open(f"parquet:{tmp_path}/0.parquet", "train")


def test_parquet_files_may_name_their_columns_differently(tmp_path):
    for name in ("caption", "TEXT"):
        parquet.write_table(pa.table({"image": BYTES, name: STRINGS}), tmp_path / f"{name}.parquet")
    assert captions(f"parquet:{tmp_path}/*.parquet") == [["one"], ["two"]] * 2

"""Tables: quotes, delimiters, broken rows."""

import csv
import gzip
import json
import shutil

import pytest

from clipa_jax.data import sources
from clipa_jax.errors import DataError
from tests.data.conftest import everything
from tests.helpers.odd_data import captions, write_pictures


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


def test_a_first_row_without_a_caption_does_not_decide_for_the_table(tmp_path):
    write_pictures(tmp_path, ["0.png", "1.png"])
    (tmp_path / "t.jsonl").write_text('{"file_name": "0.png"}\n{"file_name": "1.png", "text": "b"}')
    assert captions(f"folder:{tmp_path}/t.jsonl") == [[""], ["b"]]


def test_a_missing_or_broken_number_leaves_a_column_numeric(tmp_path):
    write_pictures(tmp_path, ["0.png", "1.png"])
    rows = [{"path": "0.png", "label": 3, "x": 1.5}, {"path": "1.png", "x": 2}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    samples = everything(f"folder:{tmp_path}/t.jsonl", ("label", "x"))
    assert [(s["label"], s["x"]) for s in samples] == [(3, 1.5), (-1, 2.0)]


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
        ("t.csv", "path,text\n0.png,a\n1.png,b,c\n", "line 3: got 3 fields, expected 2"),
        ("t.csv", "path,text\n0.png,a\n1.png\n", "line 3: got 1 fields, expected 2"),
        ("t.tsv", "path\ttext\n0.png\ta\tb\n", "line 2: got 3 fields, expected 2"),
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


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_a_field_of_a_table_may_have_any_length(tmp_path, suffix):
    write_pictures(tmp_path, ["0.png"])
    with (tmp_path / f"t.{suffix}").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="," if suffix == "csv" else "\t")
        writer.writerows([["path", "text"], ["0.png", 'a "b", ' * 50_000]])
    (texts,) = captions(f"folder:{tmp_path}/t.{suffix}")
    assert texts == ['a "b", ' * 50_000]

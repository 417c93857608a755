"""Options of a dataset, and the report that is printed."""

import pytest

from clipa_jax.errors import DataError
from clipa_jax.prepare import report, shards
from clipa_jax.prepare.options import Options, parse_share


@pytest.mark.parametrize(
    ("lengths", "text"), [([35], "1 file of 35 samples"), ([18, 17], "2 files of 17 to 18 samples")]
)
def test_the_number_of_files_is_in_the_right_grammatical_form(lengths, text):
    summary = {
        "shards": len(lengths),
        "samples_per_shard": [min(lengths), max(lengths)],
        "splits": {"train": 35},
        "record_bytes": 1_000,
    }
    assert text in report.written(summary, "out")


@pytest.mark.parametrize(("text", "share"), [("2%", 0.02), ("0.5", 0.5), ("", 0.0)])
def test_shares_are_parsed(text, share):
    assert parse_share("holdout", text) == share
    with pytest.raises(DataError, match="holdout=two: expected a share"):
        parse_share("holdout", "two")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file_format": "tfrecords"}, "unknown file format 'tfrecords'; nearest: tfrecord"),
        ({"duplicates": "images"}, "nearest: image"),
        ({"name": "My Pairs"}, "small letters"),
        ({"version": "1"}, "three numbers"),
        ({"quality": 0}, "1 to 100"),
        ({"max_aspect": 0.5}, "max_aspect=0.5: expected"),
        ({"min_chars": 5, "max_chars": 4}, "below min_chars"),
        ({"keep": ("id",)}, "always kept"),
        ({"resize": -1}, "negative"),
        ({"holdout": 1.5}, "holdout=1.5"),
    ],
)
def test_options_that_cannot_be_used_are_refused(change, message):
    with pytest.raises(DataError, match=message):
        Options(source="tfrecord:x", **change)


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_both_file_formats_work_on_every_file_system(file_format, tmp_path):
    records = [b"one", b"", b"three" * 1_000]
    for path in (f"memory://{file_format}/x", str(tmp_path / "x")):
        shards.write_file(path, file_format, records)
        assert list(shards.read(path, file_format)) == records

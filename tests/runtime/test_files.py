"""Files that are read and written whole."""

import os
from unittest.mock import Mock

import pytest

from clipa_jax.errors import DataError
from clipa_jax.runtime import files


def test_json_comes_back_as_it_was_written(tmp_path):
    files.write_json(tmp_path / "a.json", {"name": "é", "values": [1, None, 0.5]})
    assert files.read_json(tmp_path / "a.json") == {"name": "é", "values": [1, None, 0.5]}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "a.json"
    files.write_json(file, {"a": 1})
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", Mock(side_effect=OSError("no space")))
        with pytest.raises(OSError, match="no space"):
            files.write_json(file, {"a": 2})
    assert files.read_json(file) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("content", [b'{"a": 1', b"\xff\xfe", b"[" * 100_000])
def test_what_is_not_json_is_named(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match="a.json is not JSON"):
        files.read_json(tmp_path / "a.json")


def test_missing_and_unreadable_files_are_named(tmp_path):
    with pytest.raises(DataError, match="no file .*gone.json"):
        files.read_json(tmp_path / "gone.json")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        files.read_bytes(tmp_path)
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    with pytest.raises(DataError, match="latin.txt is not UTF-8"):
        files.read_text(tmp_path / "latin.txt")

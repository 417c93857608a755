"""Which files and members are samples: suffixes, hidden names, class folders, links."""

import json
import os

import pytest

from clipa_jax.data import sources
from clipa_jax.errors import DataError
from tests.data.conftest import everything
from tests.helpers.odd_data import PICTURE, write_pictures


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


def test_hidden_files_are_no_samples(tmp_path):
    hidden = ["._a.png", ".ipynb_checkpoints/a.png", "__MACOSX/a.png", "@eaDir/a.png"]
    hidden += ["#recycle/a.png", "$RECYCLE.BIN/a.png", "lost+found/a.png"]
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
    (tmp_path / "templates.txt").write_text("the {}\na photo of something\n")
    with pytest.raises(DataError, match="'a photo of something' without {} for the class's name"):
        sources.open(f"class_folders:{tmp_path}", "all")

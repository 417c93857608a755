"""Members of tars: keys, suffixes, long names."""

import tarfile

import pytest
import webdataset

from clipa_jax.data import sources
from clipa_jax.errors import DataError
from tests.data.conftest import SAMPLES, everything
from tests.helpers import writers
from tests.helpers.odd_data import PICTURE, write_tar


@pytest.mark.parametrize("form", ["USTAR_FORMAT", "GNU_FORMAT", "PAX_FORMAT"])
def test_tars_with_long_names_and_unrelated_members(tmp_path, form):
    key = "folder-" + "x" * 60 + "/" + "y" * 70
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=getattr(tarfile, form)) as tar:
        folder = tarfile.TarInfo(key.split("/")[0])
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        writers.add(tar, "README", b"not a sample")
        for number in range(3):
            writers.add(tar, f"{key}{number}.seg.PNG", b"other")
            writers.add(tar, f"{key}{number}.JPG", b"picture%d" % number)
            writers.add(tar, f"{key}{number}.txt", f"größe {number}".encode())
    found = everything(f"webdataset:{path}", ("seg.png",))
    assert [s["image"] for s in found] == [b"picture0", b"picture1", b"picture2"]
    assert [s["captions"] for s in found] == [[f"größe {number}"] for number in range(3)]
    assert [s["seg.png"] for s in found] == [b"other"] * 3
    # Old headers cut long paths in two, of which the id has the second.
    assert found[1]["id"].decode() == (key + "1" if form != "USTAR_FORMAT" else key[68:] + "1")


def test_what_webdataset_wrote(tmp_path):
    with webdataset.ShardWriter(str(tmp_path / "%03d.tar"), maxcount=20, verbose=0) as writer:
        for fields in SAMPLES:
            json_ = {"caption": fields["captions"][0], "width": 8}
            writer.write(
                {"__key__": f"sub/{fields['id']}", "png": fields["image"], "json": json_, "cls": 7}
            )
    spec = f"webdataset:{tmp_path}/{{000..002}}.tar"
    found = everything(spec, ("cls",))
    assert [s["image"] for s in found] == [s["image"] for s in SAMPLES]
    assert [s["captions"] for s in found] == [s["captions"][:1] for s in SAMPLES]
    assert found[4]["id"] == b"sub/id4" and found[4]["cls"] == 7
    # As webdataset itself reads it.
    theirs = webdataset.WebDataset(f"{tmp_path}/{{000..002}}.tar", shardshuffle=False)
    assert [s["__key__"].encode() for s in theirs] == [s["id"] for s in found]


def test_suffixes_of_pictures_in_a_tar_are_known_in_any_case(tmp_path):
    names = ["a.JFIF", "b.jpe", "c.PNG"]
    samples = everything(write_tar(tmp_path / "0.tar", [(name, PICTURE) for name in names]))
    assert [s["image"] for s in samples] == [PICTURE] * 3


def test_a_number_of_more_than_64_bits_is_a_missing_one(tmp_path):
    members = [("0.png", PICTURE), ("0.cls", "9" * 20), ("1.png", PICTURE), ("1.cls", "7")]
    spec = write_tar(tmp_path / "0.tar", members)
    assert [sample["cls"] for sample in everything(spec, ("cls",))] == [-1, 7]


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

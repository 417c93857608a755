"""The layouts that evaluation data comes in, and writing one of them."""

import io
import json
import tarfile

import numpy as np
import pytest

from clipa_jax.data import eval_batches, export, sources
from clipa_jax.errors import DataError, MissingData
from clipa_jax.runtime import storage
from tests.data.conftest import numbers, picture, sample, write_tfds
from tests.helpers.odd_data import write_pictures


def write_wds(folder, samples, per_shard=2, files=(), shards=None):
    """Dictionaries of suffix -> content, in tars; `files` are texts by name."""
    place = folder / "test"
    place.mkdir(parents=True)
    for start in range(0, len(samples), per_shard):
        with tarfile.open(place / f"{start // per_shard}.tar", "w") as tar:
            for number, members in enumerate(samples[start : start + per_shard], start):
                for suffix, content in members.items():
                    info = tarfile.TarInfo(f"s{number:07d}.{suffix}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    count = -(-len(samples) // per_shard) if shards is None else shards
    (place / "nshards.txt").write_text(f"{count}\n")
    for name, text in dict(files).items():
        (folder / name).write_text(text)
    return f"clip_benchmark:{folder}"


def read(source, features, split="test", batch=4):
    rows = []
    for one in eval_batches.Split(source, split, "decode|resize(8)", batch, features).batches():
        entries = [numbers(one["image"]), *(one[name] for name in features)]
        rows += [
            row for row, real in zip(zip(*entries, strict=True), one["_mask"], strict=True) if real
        ]
    return rows


def npy(*present, classes=4):
    buffer = io.BytesIO()
    np.save(buffer, np.isin(np.arange(classes), present).astype(np.float32))
    return buffer.getvalue()


def test_clip_benchmark_keeps_the_order_of_its_shards(tmp_path):
    samples = [{"png": picture(n), "cls": b"%d" % (n % 3)} for n in range(23)]
    files = {"classnames.txt": "a cat\na dog\n\na cow\n"}
    files["zeroshot_classification_templates.txt"] = "a photo of {c}.\n{c}\n"
    spec = write_wds(tmp_path, samples, files=files)
    rows = read(spec, ("cls",))
    assert [number for number, _ in rows] == list(range(23))  # 10.tar is not behind 1.tar
    assert [label for _, label in rows] == [n % 3 for n in range(23)]
    opened = sources.open(spec, "test")
    assert opened.class_names("cls") == ["a cat", "a dog", "a cow"]
    assert opened.class_names("else") is None
    assert opened.templates() == ["a photo of {}.", "{}"]
    assert not opened.has_captions
    (tmp_path / "test" / "nshards.txt").unlink()
    assert [number for number, _ in read(f"{spec}/", ("cls",))] == list(range(23))


def test_clip_benchmark_labels_of_several_classes_and_a_broken_one(tmp_path):
    labels = [npy(0, 2), npy(), b"no array", npy(3)]
    samples = [{"png": picture(n), "npy": label} for n, label in enumerate(labels)]
    spec = write_wds(tmp_path, samples, files={"dataset_type.txt": "multilabel\n"})
    assert read(spec, ("npy",)) == [(0, [0, 2]), (1, []), (3, [3])]


def test_clip_benchmark_captions_are_lines(tmp_path):
    texts = ["a dog\na brown dog", "two cats\r\n\u00e9t\u00e9\n"]
    samples = [{"png": picture(n), "txt": text.encode()} for n, text in enumerate(texts)]
    spec = write_wds(tmp_path, samples, files={"dataset_type.txt": "retrieval"})
    found = [[one.decode() for one in row] for _, row in read(spec, ("captions",))]
    assert found == [["a dog", "a brown dog"], ["two cats", "\u00e9t\u00e9"]]


def test_clip_benchmark_says_what_is_missing_or_wrong(tmp_path):
    samples = [{"png": picture(0), "cls": b"0"}]
    spec = write_wds(tmp_path / "a", samples, shards=2)
    with pytest.raises(MissingData, match=r"split test: no .*/test/1.tar") as missing:
        sources.open(spec, "test")
    assert missing.value.looked.endswith("test/1.tar")
    with pytest.raises(MissingData, match=r"split train: no .*/train/\*.tar"):
        sources.open(spec, "train")
    spec = write_wds(tmp_path / "b", samples, files={"dataset_type.txt": "captions"})
    with pytest.raises(DataError, match="dataset_type.txt says 'captions'; legal: classification"):
        sources.open(spec, "test")
    (tmp_path / "b" / "test" / "nshards.txt").write_text("two")
    with pytest.raises(DataError, match="nshards.txt says 'two', no number"):
        sources.open(spec, "test")


def test_class_folders_count_the_folders_by_name(tmp_path):
    for number, place in enumerate(("val/zebra/deep", "val/ant", "val/ant", "val/moth")):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / f"{number}.png").write_bytes(picture(number))
    (tmp_path / "val" / "notes.txt").write_text("not a picture")
    spec = f"class_folders:{tmp_path}"
    assert read(spec, ("label",), "val") == [(1, 0), (2, 0), (3, 1), (0, 2)]
    assert sources.open(spec, "val").class_names("label") == ["ant", "moth", "zebra"]
    assert read(f"{spec}/val", ("label",), "all") == [(1, 0), (2, 0), (3, 1), (0, 2)]


def test_class_folders_are_not_taken_for_splits(tmp_path):
    (tmp_path / "ant").mkdir()
    (tmp_path / "ant" / "0.png").write_bytes(picture(0))
    with pytest.raises(
        MissingData, match='no folder .*/val; a tree without splits is read with split="all"'
    ):
        sources.open(f"class_folders:{tmp_path}", "val")
    (tmp_path / "1.png").write_bytes(picture(1))
    with pytest.raises(DataError, match="1.png is in no class folder"):
        sources.open(f"class_folders:{tmp_path}", "all")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is empty"):
        sources.open(f"class_folders:{tmp_path}", "empty")


def karpathy(folder, inner, filepath=True):
    images = []
    for number in range(4):
        name = f"p{number}.png"
        place = folder / inner
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(picture(number))
        sentences = [{"raw": f"picture {number}"}, {"raw": "a picture, again"}]
        one = {"filename": name, "split": ("test", "train")[number % 2], "sentences": sentences}
        images.append(one | ({"filepath": "val2014"} if filepath else {}))
    (folder / "dataset.json").write_text(json.dumps({"images": images, "dataset": "coco"}))
    return f"karpathy:{folder}/dataset.json"


@pytest.mark.parametrize(
    ("inner", "filepath"),
    [("val2014", True), ("images/val2014", True), ("", False), ("images", True)],
)
def test_karpathy_finds_its_pictures(tmp_path, inner, filepath):
    spec = karpathy(tmp_path, inner, filepath)
    rows = read(spec, ("captions", "id"))
    assert [number for number, *_ in rows] == [0, 2]
    assert [one.decode() for one in rows[1][1]] == ["picture 2", "a picture, again"]
    assert rows[1][2].decode().endswith("p2.png")


def test_karpathy_says_where_it_looked(tmp_path):
    spec = karpathy(tmp_path, "elsewhere/val2014")
    with pytest.raises(MissingData, match=r"not at .*/val2014/p0.png, .*karpathy:FILE.json,FOLDER"):
        sources.open(spec, "test")
    assert len(read(f"{spec},{tmp_path}/elsewhere", ())) == 2
    with pytest.raises(DataError, match="no split 'tset'; nearest: test"):
        sources.open(f"{spec},{tmp_path}/elsewhere", "tset")
    (tmp_path / "dataset.json").write_text('{"images": [{"split": "test"}]}')
    with pytest.raises(DataError, match="is no list of `images` with"):
        sources.open(spec, "test")


def test_what_is_exported_reads_the_same(tmp_path):
    source = write_tfds(
        tmp_path / "tiny" / "1.0.0", {"train": [sample(n) for n in range(11)]}, (11,)
    )
    opened = sources.open(source, "train", ("label",))
    for kind, preprocess in (("classification", "decode|resize(8)"), ("retrieval", "")):
        label = "label" if kind == "classification" else ""
        written = export.write(
            opened,
            tmp_path / kind,
            "test",
            kind=kind,
            label=label,
            preprocess=preprocess,
            templates=["a {}"],
            shard_size=4,
        )
        assert written == 11
    spec = f"clip_benchmark:{tmp_path}"
    assert read(f"{spec}/classification", ("cls",)) == [(n, n % 3) for n in range(11)]
    assert sources.open(f"{spec}/classification", "test").class_names("cls") == ["a", "b", "c"]
    assert sources.open(f"{spec}/classification", "test").templates() == ["a {}"]
    rows = read(f"{spec}/retrieval", ("captions",))
    assert [[c.decode() for c in row] for _, row in rows] == [
        sample(n)["captions"] for n in range(11)
    ]


def test_export_refuses_what_it_cannot_write(tmp_path):
    source = write_tfds(tmp_path / "tiny" / "1.0.0", {"train": [sample(0)]}, (1,))
    opened = sources.open(source, "train")
    with pytest.raises(DataError, match="legal: classification, multilabel, retrieval"):
        export.write(opened, tmp_path, "test", kind="labels")
    with pytest.raises(DataError, match="no names for the classes of 'id'"):
        export.write(opened, tmp_path, "test", kind="classification", label="id")


def test_a_split_is_listed_once_for_all_that_read_it(tmp_path, monkeypatch):
    write_pictures(tmp_path, [f"{number}.png" for number in range(3)])
    walked, walk = [], storage.walk
    monkeypatch.setattr(storage, "walk", lambda folder: walked.append(folder) or walk(folder))
    spec = f"folder:{tmp_path}"
    assert eval_batches.listed(spec, "train", ("id",)).num_examples == 3
    assert len(read(spec, ("id",), "train")) == 3
    assert walked == [str(tmp_path)]

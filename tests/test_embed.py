"""Embeddings of a source: rows, restarts, scores and what filters by them."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import clipa_jax
from clipa_jax import embed
from clipa_jax.data import embeddings
from clipa_jax.errors import DataError
from clipa_jax.prepare.filters import LOW_SCORE, drop_reason
from clipa_jax.prepare.options import Options
from clipa_jax.prepare.samples import Sample
from tests.helpers import processes, small_stage

COUNT, BAD, SILENT = 21, 5, 7


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder with 21 pictures and captions; number 5 is damaged, number 7 has no caption."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(COUNT):
        pixels = rng.integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(pixels).save(root / f"{number:02d}.png")
        if number != SILENT:
            (root / f"{number:02d}.txt").write_text(f"picture number {number}")
    damaged = (root / f"{BAD:02d}.png").read_bytes()
    (root / f"{BAD:02d}.png").write_bytes(damaged[:100])
    return root


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    root = tmp_path_factory.mktemp("W")
    small_stage.stage(root, small_stage.config("small"))
    return root


@pytest.fixture
def job(pictures, checkpoint, tmp_path):
    """A function from further flags to a job of three parts."""
    same = {"checkpoint": str(checkpoint), "source": f"folder:{pictures}", "batch_size": 8}
    default = {"out": str(tmp_path / "out"), "part_size": 8, "dtype": "float32"}
    return lambda **given: embed.Job(**(same | default | given))


def run(job):
    embed.run(job, small_stage.evaluation({}))


def test_rows_are_the_embeddings_of_load_and_bad_samples_are_counted(job, pictures, checkpoint):
    one = job(scores=True)
    run(one)
    names = [f"{part}_{number}" for part in ("img_emb", "text_emb", "metadata") for number in "012"]
    files = {file.stem for file in Path(one.out).rglob("*_?.*")}
    assert files == set(names)
    good = [number for number in range(COUNT) if number != BAD]
    model = clipa_jax.load(str(checkpoint))
    image = model.encode_image([pictures / f"{number:02d}.png" for number in good])
    text = model.encode_text([f"picture number {number}" for number in good])
    text[good.index(SILENT)] = 0
    np.testing.assert_allclose(embeddings.read(one.out, "img_emb"), image, atol=1e-5)
    np.testing.assert_allclose(embeddings.read(one.out, "text_emb"), text, atol=1e-5)
    similarity = embeddings.column(one.out, "similarity").to_numpy()
    np.testing.assert_allclose(similarity, (image * text).sum(axis=1), atol=1e-5)
    assert embeddings.column(one.out, "position").to_pylist() == good
    captions = embeddings.column(one.out, "caption").to_pylist()
    assert captions[:2] == ["picture number 0", "picture number 1"]
    assert captions[good.index(SILENT)] == ""
    assert embeddings.skipped(one.out) == {"decode": 1}


@pytest.mark.slow
def test_two_processes_lose_and_repeat_no_sample(job, tmp_path):
    alone, two = job(scores=True), job(scores=True, out=str(tmp_path / "two"))
    run(alone)
    flags = [f"--{key}={getattr(two, key)}" for key in ("checkpoint", "source", "out", "dtype")]
    flags += ["--scores", f"--batch_size={two.batch_size}", f"--part_size={two.part_size}"]
    pair = processes.start(
        2,
        lambda index, port: [
            *(
                "-m",
                "clipa_jax.embed",
                *flags,
                f"--config.distributed.coordinator=localhost:{port}",
            ),
            *("--config.distributed.processes=2", f"--config.distributed.process={index}"),
        ],
    )
    for process in pair:
        errors = process.communicate(timeout=300)[1]
        assert process.returncode == 0, errors
    for name in ("position", "image_path", "caption"):
        assert embeddings.column(two.out, name) == embeddings.column(alone.out, name)
    for kind in ("img_emb", "text_emb"):
        rows = (embeddings.read(folder, kind) for folder in (two.out, alone.out))
        np.testing.assert_allclose(*rows, atol=1e-5)
    assert embeddings.skipped(two.out) == embeddings.skipped(alone.out) == {"decode": 1}


@pytest.mark.parametrize("parts", [0, 1, 2])
def test_a_killed_run_continues_without_repeating_or_losing_a_sample(
    job, tmp_path, monkeypatch, parts
):
    whole, killed = job(out=str(tmp_path / "whole")), job(out=str(tmp_path / "killed"))
    run(whole)
    write, written = embeddings.Folder._put, []

    def die(folder, kind, content):
        if kind == "text_emb" and folder.finished == parts:
            raise KeyboardInterrupt
        write(folder, kind, content)
        written.append(folder.finished)

    monkeypatch.setattr(embeddings.Folder, "_put", die)
    with pytest.raises(KeyboardInterrupt):
        run(killed)
    monkeypatch.setattr(
        embeddings.Folder, "_put", lambda *a: (write(*a), written.append(a[0].finished))
    )
    written.clear()
    run(killed)
    assert min(written) == parts  # finished parts are not written again
    for file in (tmp_path / "whole").rglob("*.*"):
        again = tmp_path / "killed" / file.relative_to(tmp_path / "whole")
        assert again.read_bytes() == file.read_bytes(), file.name
    written.clear()
    run(killed)
    assert written == []


def test_files_hold_half_precision_and_the_kinds_that_are_asked_for(job):
    one = job(dtype="float16", write=["image"], part_size=100)
    run(one)
    [file] = embeddings._parts(one.out, "img_emb")
    assert file.name == "img_emb_0.npy" and np.load(file).dtype == np.float16
    with pytest.raises(DataError, match="has no text_emb"):
        embeddings.read(one.out, "text_emb")
    table = pq.read_table(embeddings._parts(one.out, "metadata")[0])
    assert table.column_names == ["image_path", "position", "caption"]


@pytest.mark.parametrize(
    "changes,words",
    [({"dtype": "float16"}, "dtype='float32'"), ({"part_size": 16}, "part_size=8")],
)
def test_a_folder_of_other_embeddings_is_refused(job, changes, words):
    run(job())
    with pytest.raises(DataError, match=f"has embeddings with {words}"):
        run(job(**changes))


def test_a_source_without_captions_has_pictures_alone(job, pictures, tmp_path):
    (tmp_path / "silent").mkdir()
    (tmp_path / "silent" / "a.png").write_bytes((pictures / "00.png").read_bytes())
    silent = {"source": f"folder:{tmp_path / 'silent'}"}
    run(job(**silent))
    assert len(embeddings.read(job().out, "img_emb")) == 1
    for given in ({"write": ["text"]}, {"scores": True}):
        with pytest.raises(DataError, match="has no captions to embed"):
            run(job(**silent, **given))


def test_pairs_of_small_similarity_are_dropped_from_a_dataset(job):
    one = job(scores=True)
    run(one)
    of_split = one.source, "train", COUNT
    scores = embeddings.scores(one.out, *of_split)
    assert np.isnan(scores[BAD]) and np.isfinite(np.delete(scores, BAD)).all()
    options = Options(one.source, min_score=0.1, scores=one.out)
    sample = Sample(0, "", height=9, width=9, captions=(b"a caption",))
    reasons = [drop_reason(sample, options, score)[0] for score in (0.1, 0.099, np.nan)]
    assert reasons == ["", LOW_SCORE, LOW_SCORE]
    with pytest.raises(DataError, match="scores of samples 21, expected 22"):
        embeddings.scores(one.out, one.source, "train", COUNT + 1)
    (embeddings._parts(one.out, "metadata")[-1]).unlink()
    with pytest.raises(DataError, match="is not finished"):
        embeddings.scores(one.out, *of_split)
    with pytest.raises(DataError, match="needs scores="):
        Options(one.source, min_score=0.1)


def test_what_the_embeddings_come_from_is_recorded(job):
    one = job()
    run(one)
    about = json.loads((Path(one.out) / "embedding.json").read_text())
    assert about["samples"] == COUNT and about["source"] == one.source
    assert about["preprocess"] == "decode|resize(16)"

"""Workdirs that version 0.1.0 wrote: loaded, resumed, evaluated, reported and collected.

tests/fixtures/workdir_0_1_0/README.md says how they were written. Expected numbers are those that
version 0.1.0 wrote into them.
"""

import csv
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

import clipa_jax

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "fixtures" / "workdir_0_1_0"
OVERRIDES = (FIXTURES / "overrides.txt").read_text().split()
# Keys that may change when a run resumes; they save the time of other evaluators and of stage 2.
STAGE_1 = "--config.stages=('pretrain',)"
RESUME = [
    "--config.pretrain.evals.zero_shot.type=off",
    "--config.pretrain.evals.zero_shot_groups.type=off",
    "--config.pretrain.evals.retrieval.type=off",
]


def workdir(name: str, folder: Path) -> Path:
    """Unpacks a workdir; the archive keeps the times of its files, which order the stages."""
    with tarfile.open(FIXTURES / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / name


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A workdir with both stages finished; tests do not write into it."""
    return workdir("finished", tmp_path_factory.mktemp("old"))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in the root of the repository and expects status 0."""
    process = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process


def values(stage: Path, key: str) -> dict[int, float]:
    """A metric of metrics.jsonl by step."""
    records = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
    return {record["step"]: record[key] for record in records if key in record}


def scores(file: Path) -> dict[str, float]:
    """The numbers of evaluation.json, by `<evaluator>/<metric>`."""
    return {
        f"{name}/{metric}": entry["value"]
        for name, evaluation in json.loads(file.read_text())["evaluations"].items()
        for metric, entry in evaluation["metrics"].items()
    }


def test_load_of_an_old_workdir_gives_the_old_embeddings(finished):
    model = clipa_jax.load(str(finished))
    with np.load(FIXTURES / "recorded.npz") as recorded:
        text_BE = model.encode_text(recorded["captions"].tolist())
        image_BE = model.encode_image([recorded["picture"]])
        np.testing.assert_allclose(text_BE, recorded["text"], atol=1e-5)
        np.testing.assert_allclose(image_BE, recorded["image"], atol=1e-5)
        np.testing.assert_allclose(model.logit_scale, recorded["logit_scale"], rtol=1e-5)


def test_an_old_interrupted_run_resumes_to_the_old_end(finished, tmp_path):
    """From step 300 of 400 of stage 1, where an evaluation is due."""
    root = workdir("interrupted", tmp_path)
    overrides = [STAGE_1 if key.startswith("--config.stages=") else key for key in OVERRIDES]
    config = ("--config=configs/demo/schedule.py", f"--workdir={root}", *overrides)
    before = (root / "pretrain" / "metrics.jsonl").read_text()
    run("-m", "clipa_jax.train", *config, *RESUME)
    # The records of the first 300 steps keep their times: these steps were not run again.
    assert (root / "pretrain" / "metrics.jsonl").read_text().startswith(before)
    for key, steps in (("loss", [*range(20, 401, 20)]), ("contrastive/loss", [300, 400])):
        new, old = values(root / "pretrain", key), values(finished / "pretrain", key)
        assert list(new) == list(old) == steps
        np.testing.assert_allclose([*new.values()], [*old.values()], rtol=1e-4)


def test_evaluate_of_an_old_workdir_gives_the_old_scores(finished, tmp_path):
    config = ("--config=configs/demo/schedule.py", *OVERRIDES)
    run("-m", "clipa_jax.evaluate", *config, f"--checkpoint={finished}", f"--out={tmp_path}")
    fresh = scores(tmp_path / "evaluation.json")
    old = scores(finished / "finetune_1" / "evaluation.json")
    assert old["zero_shot_groups/top1"] * 280 == pytest.approx(36)
    assert set(fresh) >= set(old)
    assert {key: fresh[key] for key in old} == pytest.approx(old, rel=1e-5)


def test_report_of_an_old_workdir_is_a_page_with_its_stages(finished, tmp_path):
    run("tools/report.py", str(finished), f"--out={tmp_path / 'report.html'}")
    page = (tmp_path / "report.html").read_text()
    assert len(page) > 100_000  # with pictures
    for text in ("pretrain", "finetune_1", "tfds:data/emoji/1.0.0", "zero_shot_groups"):
        assert text in page


def test_collect_lists_the_stages_of_an_old_workdir(finished, tmp_path):
    run("tools/collect.py", str(finished.parent), f"--out={tmp_path}")
    with (tmp_path / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["run"], row["stage"]) for row in rows] == [
        ("finished", "pretrain"),
        ("finished", "finetune_1"),
    ]
    summary = json.loads((finished / "summary.json").read_text())["stages"]
    for row, stage in zip(rows, summary, strict=True):
        assert int(row["samples"]) == stage["samples_seen"]
        assert {key: float(row[key]) for key in stage["scores"]} == stage["scores"]

"""tools/collect.py as a user calls it."""

import subprocess
import sys
from pathlib import Path

from PIL import Image

from clipa_jax.config import recipes
from tests.helpers.sweep_runs import plant
from tests.report.test_scaling import grid

ROOT = Path(__file__).parents[2]


def collect(*arguments):
    return subprocess.run(
        [sys.executable, ROOT / "tools" / "collect.py", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_table_and_plots(tmp_path):
    for rate in (0.002, 0.004, 0.016):
        for seed in (0, 1):
            keys = {"seed": seed, "optim__lr_per_256": rate}
            plant(tmp_path / f"runs/{rate}/{seed}", 10 * rate + seed / 100, **keys)
    (tmp_path / "runs" / "points.txt").write_text("0.002/0\n0.032/0\n")
    done = collect(tmp_path / "runs", "--x=optim.lr_per_256", f"--out={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == [
        "optim.lr_per_256",
        "runs",
        "samples",
        "TFLOPs",
        "seconds",
        "zero_shot/top1",
    ]
    assert lines[2][:3] == [
        "0.002",
        "2",
        f"{recipes.load('scaling/pretrain').total_examples:,}",
    ] and lines[2][-3:] == [
        "2.50",
        "±",
        "0.50",
    ]
    assert "1 of 7 points are not finished: 0.032/0" in done.stderr
    assert (tmp_path / "out" / "table.md").read_text().startswith("| optim.lr_per_256 | runs |")
    for name in ("zero_shot_top1.png", "zero_shot_top1_flops.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert picture.format == "PNG" and len(picture.convert("L").getcolors()) > 50
    # The table alone gives the same.
    again = collect(tmp_path / "out" / "runs.csv", "--metrics=zero_shot/top1")
    assert again.stdout == done.stdout


def test_the_law_and_its_plots(tmp_path):
    grid(tmp_path / "runs")
    done = collect(tmp_path / "runs", "--law", f"--out={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    wrote = {file.name for file in (tmp_path / "out").iterdir()}
    top1 = {f"law_zero_shot_top1{end}" for end in (".md", "_image.png", "_text.png", "_flops.png")}
    assert wrote == {"runs.csv", *top1}
    assert "the drop of mini less that of nano is -12.00" in done.stdout


def test_an_empty_folder_is_one_sentence(tmp_path):
    done = collect(tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith(f"error: no finished run in {tmp_path}: looked for summary.json")
    assert len(done.stderr.splitlines()) == 1


def test_what_cannot_be_read_is_named_and_the_status_says_so(tmp_path):
    plant(tmp_path / "a", 0.1)
    plant(tmp_path / "b", 0.1)
    (tmp_path / "b" / "summary.json").write_text("{")
    done = collect(tmp_path)
    assert done.returncode == 1
    assert f"{tmp_path / 'b'} is left out" in done.stderr and "zero_shot/top1" in done.stdout

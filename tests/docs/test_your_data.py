"""The commands of docs/your_data.md in order, as they stand there but for the length."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import pages

HOUR, STEPS = "--config.minutes=60", "--config.all.total_steps=2"  # an hour, two steps a stage
PAIRS = 40
COLORS = {"red": (220, 20, 20), "green": (20, 160, 20), "blue": (30, 30, 220)}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of pairs at several depths, one of classes, and a picture; no checkout."""
    root, rng = tmp_path_factory.mktemp("own"), np.random.default_rng(0)

    def picture(path: Path, color: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = rng.integers(0, 60, (40, 48, 3)) - 30
        Image.fromarray(np.clip(COLORS[color] + noise, 0, 255).astype(np.uint8)).save(path)

    for number in range(PAIRS):
        color = list(COLORS)[number % 3]
        path = root / "pictures" / ("part" if number % 2 else "") / f"{number}.jpg"
        picture(path, color)
        path.with_suffix(".txt").write_text(f"a {color} wall, number {number}")
    for color in COLORS:
        for number in range(2):
            picture(root / "classes" / color / f"{number}.jpg", color)
    picture(root / "picture.jpg", "red")
    return root


@pytest.mark.slow  # nearly three minutes of a processor: eight commands, three stages of Ti
def test_the_commands_of_the_page_run_in_order(place):
    commands = list(pages.commands("docs/your_data.md", "sh|python"))
    assert [command[0].removeprefix("clipa-") for command in commands] == [
        "train-vocab", "inspect", "prepare", "train", "evaluate", "evaluate", "report", "-c",
    ]  # fmt: skip
    hours = [word for command in commands for word in command].count(HOUR)
    shorter = [[STEPS if word == HOUR else word for word in command] for command in commands]
    log = pages.run(shorter, place)
    assert hours == 1 and "Traceback" not in log
    assert (place / "inspection/contact_sheet.png").exists()
    splits = json.loads((place / "data/mine/1.0.0/dataset_info.json").read_text())["splits"]
    lengths = {split["name"]: sum(map(int, split["shardLengths"])) for split in splits}
    assert lengths == {"train": PAIRS - 1, "validation": 1}
    for stage in ("pretrain", "finetune_1", "finetune_2"):
        metrics = (place / "runs/mine" / stage / "metrics.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in metrics]
        assert [r["step"] for r in records if "loss" in r] == [1, 2]
        assert any("retrieval/i2t_r1" in r for r in records)
    pairs, classes = (
        json.loads((place / f"results/{name}/evaluation.json").read_text())
        for name in ("pairs", "classes")
    )
    assert pairs["weights"] == classes["weights"]
    assert (place / "runs/mine/report.html").exists()

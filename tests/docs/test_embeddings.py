"""The commands of docs/embeddings.md, as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import small_stage

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(
    r"```(python)?\n((?:python|from).+?)```", (ROOT / "docs/embeddings.md").read_text(), re.DOTALL
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what the page takes for granted."""
    root, rng = tmp_path_factory.mktemp("docs"), np.random.default_rng(0)
    (root / "pictures").mkdir()
    for number in range(12):
        pixels = rng.integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(pixels).save(root / "pictures" / f"{number}.png")
        (root / "pictures" / f"{number}.txt").write_text(f"picture number {number}")
    small_stage.stage(root / "runs/demo", small_stage.config("small"))
    (root / "tools").symlink_to(ROOT / "tools")
    return root


def test_the_commands_of_the_page_run_in_order(place):
    environment = dict(
        os.environ, PYTHONPATH=str(ROOT), TF_CPP_MIN_LOG_LEVEL="3", JAX_PLATFORMS="cpu"
    )
    python = f'python() {{ "{sys.executable}" "$@"; }}\n'
    assert len(BLOCKS) == 4
    for language, block in BLOCKS:
        command = [sys.executable, "-c", block] if language else ["bash", "-c", python + block]
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{block}{done.stdout}{done.stderr}"
    with Image.open(place / "neighbors.png") as sheet:
        assert sheet.width > 500
    assert (place / "embeddings/img_emb/img_emb_0.npy").exists()
    assert (place / "filtered/1.0.0/dataset_info.json").exists()

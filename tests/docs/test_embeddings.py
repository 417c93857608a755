"""The commands of docs/embeddings.md, as they stand there."""

import numpy as np
import pytest
from PIL import Image

from tests.helpers import pages, small_stage


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what the page takes for granted."""
    root = pages.prepare(tmp_path_factory.mktemp("docs"))
    rng = np.random.default_rng(0)
    (root / "pictures").mkdir()
    for number in range(12):
        pixels = rng.integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(pixels).save(root / "pictures" / f"{number}.png")
        (root / "pictures" / f"{number}.txt").write_text(f"picture number {number}")
    small_stage.stage(root / "runs/demo", small_stage.config("small"))
    return root


def test_the_commands_of_the_page_run_in_order(place):
    commands = list(pages.commands("docs/embeddings.md", "sh|python"))
    assert len(commands) == 4
    pages.run(commands, place)
    with Image.open(place / "neighbors.png") as sheet:
        assert sheet.width > 500
    assert (place / "embeddings/img_emb/img_emb_0.npy").exists()
    assert (place / "filtered/1.0.0/dataset_info.json").exists()

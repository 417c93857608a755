"""tools/push_to_hub.py as its users run it, with the loopback hub."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import fake_runs, loopback_hub, random_clip

TOOL = str(Path(__file__).parents[2] / "tools/push_to_hub.py")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workdir with scores, and a folder of open_clip beside it."""
    root = tmp_path_factory.mktemp("push")
    for name in fake_runs.STAGES:
        stage = fake_runs.stage(root / "W", name, 0.25)
    fake_runs.evaluation(stage, 0.25)
    shape = random_clip.config(input__res=16)
    random_clip.write_open_clip(root / "torch", shape, random_clip.weights(shape))
    return root


def push(root, hub, *arguments):
    environment = dict(os.environ, HF_ENDPOINT=hub.url, HF_TOKEN="good", HF_HUB_DISABLE_XET="1")
    same = [f"--folder={root / 'torch'}", f"--workdir={root / 'W'}", "--license=apache-2.0"]
    command = [sys.executable, TOOL, *same, "--repository=me/clip", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_dry_run_writes_the_card_and_the_push_uploads_all_files(trained):
    with loopback_hub.serve() as hub:
        push(trained, hub, "--dry_run")
        card = (trained / "torch/README.md").read_text()
        assert not hub.requests
        for words in (
            "license: apache-2.0",
            'load("hf-hub:me/clip")',
            "25.00",
            "23.00",
            "finetune_2",
            fake_runs.DATA,
        ):
            assert words in card
        (trained / "torch/README.md").write_text(f"{card}\nEdited by hand.\n")
        push(trained, hub)
        files = hub.repositories["me/clip"].files
        assert files == {file.name: file.read_bytes() for file in (trained / "torch").iterdir()}
        assert files["README.md"].endswith(b"Edited by hand.\n")

"""tools/push_to_hub.py as its users run it, with the loopback hub."""

import pytest

from tests.helpers import fake_runs, loopback_hub, pages, random_clip


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


def test_a_dry_run_writes_the_card_and_the_push_uploads_all_files(trained):
    card = trained / "torch/README.md"
    same = [f"--folder={card.parent}", f"--workdir={trained / 'W'}", "--license=apache-2.0"]
    push = ["tools/push_to_hub.py", *same, "--repository=me/clip"]
    edit = f"open({str(card)!r}, 'a').write('Edited by hand.')"
    with loopback_hub.serve() as hub:
        variables = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "good", "HF_HUB_DISABLE_XET": "1"}
        pages.run([[*push, "--dry_run"], ["-c", edit], push], pages.ROOT, variables)
        for words in (
            "license: apache-2.0",
            'load("hf-hub:me/clip")',
            "25.00",
            "23.00",
            "finetune_2",
            fake_runs.DATA,
        ):
            assert words in card.read_text()
        created = [path for _, path, _ in hub.requests if path == "/api/repos/create"]
        assert len(created) == 1  # not by the dry run
        files = hub.repositories["me/clip"].files
        assert files == {file.name: file.read_bytes() for file in card.parent.iterdir()}
        assert files["README.md"].endswith(b"Edited by hand.")

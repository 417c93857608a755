"""tools/push_to_hub.py as its users run it, with the loopback hub."""

import types

import pytest

from clipa_jax import runs
from clipa_jax.commands import push_to_hub
from clipa_jax.errors import DataError, UserError
from clipa_jax.report import model_card
from clipa_jax.runtime import hub
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


@pytest.mark.parametrize(
    ("init", "base", "origin"),
    [
        ("", None, "trained from scratch"),
        ("hf-hub:me/base@v1", "me/base", "fine-tuned from me/base with"),
        (
            "clipa-l14-datacomp1b",
            "UCSC-VLAA/ViT-L-14-CLIPA-datacomp1B",
            "fine-tuned from UCSC-VLAA/",
        ),
        ("/data/private/base.npz", None, "fine-tuned from other weights"),
    ],
)
def test_the_card_names_the_weights_that_the_run_started_from(trained, init, base, origin):
    run = runs.read_one(trained / "W")
    run.stages[0].config["init"] = init
    card = model_card.text("me/clip", "mit", run)
    assert origin in card and "private" not in card
    assert (f"\nbase_model: {base}\n" in card) if base else ("base_model" not in card)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("--repository=clip", "--repository=clip: expected OWNER/NAME"),
        ("--workdir=nowhere", "--workdir=nowhere holds no stage of a run"),
    ],
)
def test_a_push_that_cannot_be_made_is_refused(trained, changed, message, monkeypatch):
    monkeypatch.setattr(push_to_hub.open_clip_folder, "is_folder", lambda folder: True)
    flags = {"folder": str(trained / "new"), "workdir": str(trained / "W"), "license": "mit"}
    flags |= {"repository": "me/clip", "evaluation": "", "private": False, "dry_run": True}
    name, _, value = changed.removeprefix("--").partition("=")
    given = types.SimpleNamespace(**flags | {name: value})
    monkeypatch.setattr(push_to_hub.flags, "FLAGS", given)
    with pytest.raises(UserError, match=message):
        push_to_hub.main([])


def test_a_refused_upload_says_what_to_do():
    with (
        pytest.raises(DataError, match="me/clip: the upload failed: 401 .*may write"),
        hub.upload_errors("me/clip"),
    ):
        raise ConnectionError("401 Unauthorized\nmore")

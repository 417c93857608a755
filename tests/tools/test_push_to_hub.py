"""tools/push_to_hub.py as its users run it, with the loopback hub."""

import functools
import json
import shutil
import types

import pytest

from clipa_jax import runs
from clipa_jax.commands import push_to_hub
from clipa_jax.convert import tokenizer
from clipa_jax.errors import ConfigError, DataError, UserError
from clipa_jax.preprocess.text import load_tokenizer
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
    folder = random_clip.write_open_clip(root / "torch", shape, random_clip.weights(shape))
    tokenizer.write(load_tokenizer(random_clip.VOCAB).vocabulary, folder)
    return root


# The card's own lines, with the ids of the tokens as we make them.
OPEN_CLIP = """
import open_clip
tokenizer = open_clip.get_tokenizer("hf-hub:me/clip")
assert tokenizer(["a cat"])[0, :4].tolist() == {ids}, tokenizer(["a cat"])
"""


def test_a_dry_run_writes_the_card_and_the_push_uploads_all_files(trained):
    card = trained / "torch/README.md"
    same = [f"--folder={card.parent}", f"--workdir={trained / 'W'}", "--license=apache-2.0"]
    push = ["tools/push_to_hub.py", *same, "--repository=me/clip"]
    edit = f"open({str(card)!r}, 'a').write('Edited by hand.')"
    with loopback_hub.serve() as hub:
        variables = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "good", "HF_HUB_DISABLE_XET": "1"}
        ids = load_tokenizer(random_clip.VOCAB).encode(["a cat"], 4)[0].tolist()
        use = OPEN_CLIP.format(ids=ids)
        commands = [[*push, "--dry_run"], ["-c", edit], push, ["-c", use]]
        said = pages.run(commands, pages.ROOT, variables | {"HF_HOME": str(trained / "hf")})
        assert f"wrote {card}" in said and f"kept {card} as it is" in said
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
    card = model_card.text("me/clip", "mit", run, None)
    assert origin in card and "private" not in card
    assert (f"\nbase_model: {base}\n" in card) if base else ("base_model" not in card)


def main(monkeypatch, **values):
    """The command in this process, as a dry run."""
    values = {"license": "mit", "repository": "me/clip", "evaluation": ""} | values
    given = types.SimpleNamespace(**values, private=False, dry_run=True)
    monkeypatch.setattr(push_to_hub.flags, "FLAGS", given)
    push_to_hub.main([])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("--repository=clip", "--repository=clip: expected OWNER/NAME"),
        ("--workdir=nowhere", "--workdir=nowhere holds no stage of a run"),
    ],
)
def test_a_push_that_cannot_be_made_is_refused(trained, changed, message, monkeypatch):
    monkeypatch.setattr(push_to_hub.open_clip_folder, "is_folder", lambda folder: True)
    flags = {"folder": str(trained / "new"), "workdir": str(trained / "W")}
    name, _, value = changed.removeprefix("--").partition("=")
    with pytest.raises(UserError, match=message):
        main(monkeypatch, **flags | {name: value})


def test_a_refused_upload_says_what_to_do():
    response = types.SimpleNamespace(status_code=401, headers={}, request=None)
    for error, remedy in (
        (hub.errors.HfHubHTTPError("401 Unauthorized\nmore", response=response), "may write"),
        (ConnectionError("refused"), "check the network and HF_ENDPOINT"),
    ):
        with (
            pytest.raises(DataError, match=f"me/clip: the upload failed: .*{remedy}"),
            hub.upload_errors("me/clip"),
        ):
            raise error


@pytest.mark.parametrize("name", ["clip", "a/b/c", "hf-hub:me/clip", "me/clip@v1", "me/--x..y"])
def test_a_name_that_the_hub_does_not_take_is_refused_before_any_card(name):
    with pytest.raises(ConfigError, match=f"--repository={name}: expected OWNER/NAME"):
        hub.check_name(name)


def test_scores_of_other_weights_are_refused(trained, tmp_path, monkeypatch):
    folder = tmp_path / "torch"
    shutil.copytree(trained / "torch", folder)
    (folder / "README.md").unlink(missing_ok=True)
    run = runs.read_one(trained / "W")
    push = functools.partial(main, monkeypatch, folder=str(folder), workdir=str(trained / "W"))
    (folder / "parity.json").write_text(json.dumps({"weights": "0badf00d"}))
    with pytest.raises(DataError, match="has the weights 0badf00d, but the scores are those of"):
        push()
    (folder / "parity.json").write_text(
        json.dumps({"weights": run.stages[-1].evaluation["weights"]})
    )
    push()
    assert (folder / "README.md").exists()


def test_the_card_of_a_mixture_says_what_it_is_and_what_was_evaluated(trained):
    run = runs.read_one(trained / "W")
    report = run.stages[-1].evaluation | {"checkpoint": "0.5 x start + 0.5 x tuned"}
    card = model_card.text("me/clip", "mit", run, report)
    assert "the weights were averaged: `0.5 x start + 0.5 x tuned`" in card
    assert "averaged" not in model_card.text("me/clip", "mit", run, run.stages[-1].evaluation)
    name, entry = next(iter(report["evaluations"].items()))
    assert f"- {name}: `{entry['source']}`, split {entry['split']}" in card

"""The commands of docs/finetuning.md in order, as they stand there but for the length."""

import json

import numpy as np
import pytest
from PIL import Image

from clipa_jax.weights import open_clip_folder
from tests.helpers import loopback_hub, pages, random_clip

LENGTH = "--config.total_steps=2"  # instead of ten passes
NAME = "UCSC-VLAA/ViT-L-14-CLIPA-datacomp1B"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what the page takes for granted: pairs, and pictures of two classes."""
    root = pages.prepare(tmp_path_factory.mktemp("docs"))
    rng = np.random.default_rng(0)
    for folder in ("pictures", "classes/red", "classes/green"):
        (root / folder).mkdir(parents=True)
        for number in range(60 if folder == "pictures" else 4):
            pixels = rng.integers(0, 256, (20, 24, 3), np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{number}.png")
    for number in range(60):
        (root / "pictures" / f"{number}.txt").write_text(f"picture number {number}")
    return root


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """Made-up weights in the layout of a released model, with its own vocabulary."""
    config = random_clip.config(input__res=16, model__text__vocab_size=30_592)
    config.model.image.posemb = "learned"
    folder = tmp_path_factory.mktemp("weights") / "torch"
    random_clip.write_open_clip(folder, config, random_clip.weights(config))
    content = json.loads((folder / open_clip_folder.CONFIG).read_text())
    content["model_cfg"]["text_cfg"] |= {
        "hf_tokenizer_name": "bert-base-uncased",
        "tokenizer_kwargs": {"strip_sep_token": True},
    }
    (folder / open_clip_folder.CONFIG).write_text(json.dumps(content))
    return folder


@pytest.mark.slow  # 50 s of a processor: eleven commands
def test_the_commands_of_the_page_run_in_order(place, released):
    commands = list(pages.commands("docs/finetuning.md", "sh"))
    assert len(commands) == 11
    for command in commands:
        if "clipa_jax.train" in command:
            command.append(LENGTH)
    with loopback_hub.serve() as hub:
        hub.add(NAME, released)
        log = pages.run(commands, place, {"HF_ENDPOINT": hub.url, "HF_HOME": str(place / "hf")})
    assert "stage finetune" in log
    before, after, difference = (
        json.loads((place / "results" / name).read_text())
        for name in ("before/evaluation.json", "after/evaluation.json", "comparison.json")
    )
    assert before["weights"] != after["weights"] and not difference["refused"]
    values = [
        json.loads((place / "sweep" / name / "curve.json").read_text()) for name in ("new", "old")
    ]
    assert all(value["alpha"] == [0, 0.25, 0.5, 0.75, 1] for value in values)
    ends = [json.loads((place / f"sweep/new/evaluation_{n}.json").read_text()) for n in (0, 4)]
    assert [end["weights"] for end in ends] == [before["weights"], after["weights"]]
    assert np.load(place / "embeddings/img_emb/img_emb_0.npy").shape == (60, 128)
    assert (place / "neighbors.png").exists() and (place / "exported/image.stablehlo").exists()

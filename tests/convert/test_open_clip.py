"""Our models beside those of the real open_clip: the same numbers, both ways."""

import json
import os
from pathlib import Path

import numpy as np
import open_clip
import pytest
import safetensors.torch
import torch

import clipa_jax
from clipa_jax.errors import CheckpointError
from clipa_jax.models.sizes import SIZES
from clipa_jax.weights import architecture, open_clip_folder, open_weights
from tests.helpers import random_clip


@pytest.mark.parametrize("size", ["S/16", "B/16", "L/14", "H/14", "G/14"])
def test_published_shapes_agree_and_come_back_exactly(export, size):
    config = random_clip.config(size)
    _check_round_trip(export, config, random_clip.weights(config))


@pytest.mark.skipif("CLIPA_WHOLE" not in os.environ, reason="minutes; CLIPA_WHOLE=L/14 runs it")
def test_a_whole_model_agrees_and_comes_back_exactly(export):
    size = os.environ["CLIPA_WHOLE"]
    tower = {"depth": None}
    config = random_clip.config(
        size, input__res=224, input__text_len=32, model__text__vocab_size=32_000
    )
    config.model.update({"image": tower, "text": tower})
    report = _check_round_trip(export, config, random_clip.weights(config))
    print(json.dumps(report, indent=2))


def _check_round_trip(export, config, leaves) -> dict:
    """Exports, compares with open_clip, reads back; the parity report."""
    size = config.model.size
    out = export(config, leaves)
    report = json.loads((out / "parity.json").read_text())
    for tower in ("image", "text"):
        assert report[tower]["max_abs"] < 1e-5  # 1e-4 is what counts as converted
        assert report[tower]["min_cosine"] > 0.999999
    vision = json.loads((out / open_clip_folder.CONFIG).read_text())["model_cfg"]["vision_cfg"]
    assert vision["width"] == vision["head_width"] * SIZES[size[0]].image.num_heads
    weights = open_weights(str(out))
    back_config, back = weights.config, dict(weights.read())
    table = back.pop("img/pos_embedding")
    _, rows, width = table.shape
    np.testing.assert_array_equal(table, open_clip_folder.sincos_table(rows - 1, width))
    assert back_config.model.image.posemb == "sincos2d"
    assert back.keys() == leaves.keys()
    for name, leaf in leaves.items():
        np.testing.assert_array_equal(back[name], leaf, err_msg=name)
    return report


@pytest.mark.parametrize(
    "image,text",
    [
        (
            {"gelu": "tanh", "pool": "tok", "pre_norm": True, "posemb": "learned"},
            {"gelu": "exact", "pool": "argmax", "causal": True, "norm_eps": 1e-2},
        ),
        (
            {"gelu": "quick", "pool": "gap", "pre_norm": False, "norm_eps": 1e-2},
            {"gelu": "quick", "pool": "first", "causal": False},
        ),
    ],
)
def test_every_variant_that_open_clip_has_agrees(export, image, text):
    wanted = {"image": image, "text": text}
    config = random_clip.config(input__res=32)
    config.model.update(wanted)
    out = export(config, random_clip.weights(config))
    report = json.loads((out / "parity.json").read_text())
    assert max(report["image"]["max_abs"], report["text"]["max_abs"]) < 1e-5
    back = open_weights(str(out)).config.model
    for tower, values in wanted.items():
        assert {key: back[tower][key] for key in values} == values


def test_a_gelu_of_another_kind_would_be_noticed(tmp_path, export, monkeypatch):
    config = random_clip.config(input__res=32)
    leaves = random_clip.weights(config)
    for name in leaves:  # to where the kinds differ
        if name.endswith("Dense_0/bias"):
            leaves[name][:] = -2.2
        elif name.endswith("Dense_1/kernel"):
            leaves[name] *= 30
    monkeypatch.setitem(architecture.GELUS, "tanh", {})  # as open_clip's own CLIPA configs
    with pytest.raises(CheckpointError, match=r"embeddings of the two sides differ by .*nothing"):
        export(config, leaves)
    assert [file.name for file in tmp_path.iterdir()] == ["weights.npz"]


def test_an_epsilon_of_another_size_would_be_noticed(tmp_path, export, monkeypatch):
    config = random_clip.config(input__res=32, model__text__norm_eps=1e-2)
    to_open_clip = architecture.to_open_clip

    def without_epsilon(*arguments):
        content = to_open_clip(*arguments)
        content["model_cfg"]["text_cfg"]["norm_kwargs"] = None
        return content

    monkeypatch.setattr(architecture, "to_open_clip", without_epsilon)
    with pytest.raises(CheckpointError, match="text embeddings of the two sides differ"):
        export(config, random_clip.weights(config))


def _save(path: Path, model_cfg: dict) -> torch.nn.Module:
    """A randomly initialised open_clip model in a folder, made by open_clip."""
    (path / open_clip_folder.CONFIG).write_text(json.dumps({"model_cfg": model_cfg}))
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{path}").eval()
    safetensors.torch.save_file(model.state_dict(), path / open_clip_folder.WEIGHTS)
    return model


OPENAI = {
    "embed_dim": 64,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 48, "layers": 2, "width": 128, "patch_size": 16},
    "text_cfg": {"context_length": 10, "vocab_size": 600, "width": 64, "heads": 2, "layers": 2},
}


def test_a_model_like_openais_loads_and_agrees(tmp_path):
    theirs = _save(tmp_path, OPENAI)
    ours = clipa_jax.load(str(tmp_path))
    assert ours.config.model.image.pre_norm and ours.config.model.text.causal
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)
    tokens = rng.integers(0, 600, (5, 10), dtype=np.int32)
    pixels = (images / 255 - open_clip.OPENAI_DATASET_MEAN) / open_clip.OPENAI_DATASET_STD
    with torch.inference_mode():
        pixels = torch.from_numpy(pixels.astype(np.float32).transpose(0, 3, 1, 2))
        zimg = theirs.encode_image(pixels, normalize=True).numpy()
        ztxt = theirs.encode_text(torch.from_numpy(tokens).long(), normalize=True).numpy()
    np.testing.assert_allclose(ours.encode_image(images), zimg, atol=1e-5)
    np.testing.assert_allclose(ours.encode_text(tokens), ztxt, atol=1e-5)
    assert ours.logit_scale == pytest.approx(1 / 0.07, rel=1e-5)


def test_the_class_with_a_text_module_has_the_same_weights(tmp_path):
    _save(tmp_path, OPENAI)
    plain = open_weights(str(tmp_path))
    config, leaves = plain.config, plain.read()
    theirs = _save(tmp_path, {**OPENAI, "custom_text": True})
    assert "text.positional_embedding" in theirs.state_dict()
    weights = open_weights(str(tmp_path))
    custom = weights.read()
    assert weights.config == config
    assert {k: x.shape for k, x in custom.items()} == {k: x.shape for k, x in leaves.items()}
    width = theirs.text.text_projection.detach().numpy()
    np.testing.assert_array_equal(custom["txt/head/kernel"], width)

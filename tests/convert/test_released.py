"""The released models: their recipes beside open_clip's architectures."""

import dataclasses
import json

import numpy as np
import open_clip
import pytest
import torch

import clipa_jax
from clipa_jax import models
from clipa_jax.config import recipes
from clipa_jax.config.settings import Settings
from clipa_jax.weights import architecture, open_clip_folder, released


@pytest.mark.parametrize("name", released.MODELS)
def test_a_released_model_has_the_architecture_of_its_recipe(name):
    model = released.MODELS[name]
    recipe = recipes.load(model.config.removeprefix("configs/").removesuffix(".py"))
    content = {"model_cfg": open_clip.get_model_config(model.architecture)}
    config = architecture.from_open_clip(content)
    assert config.input.res == recipe.input.res == model.res
    assert config.input.text_len == recipe.input.text_len
    assert config.input.vocab == recipe.input.vocab == "bert-base-uncased"
    theirs, ours = (models.build(Settings(c.model)) for c in (config, recipe))
    for tower in ("img", "txt"):
        numerics = released.NUMERICS["clipa"]
        changed = dataclasses.replace(getattr(theirs, tower).config, **numerics)
        expected = dataclasses.replace(
            getattr(ours, tower).config,
            **{key: getattr(changed, key) for key in ("dtype", "attention", "layers", "remat")},
        )
        if tower == "img":  # open_clip stores the table
            changed = dataclasses.replace(changed, posemb="sincos2d")
        assert changed == expected


V1 = {"v1_b16_i50_t16": ("B", 16), "v1_l16_i17_t16": ("L", 16), "v1_l16_i37_t8": ("L", 32)}


@pytest.mark.parametrize("name", V1)
def test_weights_of_clipa_v1_have_the_sizes_of_their_recipe_and_give_open_clips_embeddings(
    name, tmp_path
):
    content = json.loads((recipes.CONFIGS / f"released/{name}.json").read_text())
    config, (size, text_len) = architecture.from_open_clip(content), V1[name]
    recipe = recipes.load(
        *{"B": ("model_b/pretrain", "i50_t16"), "L": ("model_l/v1_pretrain",)}[size]
    )
    theirs, ours = (models.build(Settings(c.model)) for c in (config, recipe))
    for tower in ("img", "txt"):
        for key in ("width", "depth", "mlp_dim", "num_heads", "embed_dim"):
            values = [getattr(getattr(model, tower).config, key) for model in (theirs, ours)]
            assert values[0] == values[1], (tower, key)
    assert theirs.img.config.pool == ours.img.config.pool
    assert (config.input.vocab, config.input.text_len) == ("clip", text_len)

    # The same architecture in small, as clipa_torch saves it.
    small = content["model_cfg"]
    small["embed_dim"] = 24
    small["vision_cfg"] |= {"layers": 1, "width": 64, "image_size": 32}
    small["text_cfg"] |= {"layers": 1, "width": 32, "heads": 2}
    content["preprocess_cfg"]["size"] = 32
    (tmp_path / open_clip_folder.CONFIG).write_text(json.dumps(content))
    torch.manual_seed(0)
    peer = open_clip.CLIP(**small).eval()
    state = {f"module.{key}": value for key, value in peer.state_dict().items()}
    saved = {"epoch": 1, "name": "v1", "state_dict": state}
    torch.save(saved, tmp_path / "open_clip_pytorch_model.bin")
    model = clipa_jax.load(str(tmp_path))
    texts = ["a photo of two dogs", "Grüße aus Köln!", "word " * 40]
    tokens = open_clip.tokenize(texts, context_length=text_len)
    pixels = np.random.default_rng(0).standard_normal((2, 32, 32, 3), np.float32)
    with torch.no_grad():
        text = peer.encode_text(tokens, normalize=True).numpy()
        image = peer.encode_image(torch.from_numpy(pixels).permute(0, 3, 1, 2), normalize=True)
    np.testing.assert_array_equal(model.tokenize(texts), tokens.numpy())
    np.testing.assert_allclose(model.encode_text(texts), text, atol=1e-5)
    np.testing.assert_allclose(model.encode_image(pixels), image.numpy(), atol=1e-5)
    for key in ("mean", "std"):
        assert tuple(config.model[key]) == tuple(content["preprocess_cfg"][key])

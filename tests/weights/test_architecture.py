"""What is not supported on the other side is refused by name, never dropped."""

import copy

import pytest

from clipa_jax import models
from clipa_jax.config.settings import Settings
from clipa_jax.errors import CheckpointError
from clipa_jax.weights import architecture
from tests.helpers import random_clip

STANDARD = {
    "model_cfg": {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 8, "vocab_size": 100, "width": 64, "heads": 1, "layers": 1},
    },
    "preprocess_cfg": {},
}


def _with(section: str, key: str, value) -> dict:
    content = copy.deepcopy(STANDARD)
    part = content if section in content else content["model_cfg"]
    part[section][key] = value
    return content


@pytest.mark.parametrize(
    "section,key,value",
    [
        ("vision_cfg", "attentional_pool", True),
        ("vision_cfg", "timm_model_name", "vit_base_patch16_224"),
        ("vision_cfg", "ls_init_value", 1e-5),
        ("vision_cfg", "qk_norm", True),
        ("vision_cfg", "scale_fc", True),
        ("vision_cfg", "block_type", "custom"),
        ("vision_cfg", "pool_type", "avg"),  # the norm before the mean
        ("vision_cfg", "pool_type", "none"),
        ("vision_cfg", "layers", [3, 4, 6, 3]),
        ("vision_cfg", "image_size", 40),
        ("vision_cfg", "norm_kwargs", {"elementwise_affine": False}),
        ("vision_cfg", "no_such_key", 1),
        ("vision_cfg", "width", "64"),
        ("text_cfg", "hf_model_name", "roberta-base"),
        ("text_cfg", "embed_cls", True),
        ("text_cfg", "proj_type", "none"),
        ("text_cfg", "proj_bias", True),
        ("text_cfg", "pool_type", "eos"),
        ("text_cfg", "act_kwargs", {"inplace": True}),
        ("text_cfg", "ls_init_value", 0.1),
        ("model_cfg", "multimodal_cfg", {"width": 64}),
        ("preprocess_cfg", "resize_mode", "longest"),
        ("preprocess_cfg", "interpolation", "nearest"),
    ],
)
def test_what_our_model_does_not_have_is_refused_by_name(section, key, value):
    with pytest.raises(CheckpointError, match=rf"{key}\b.*(support|divide)"):
        architecture.from_open_clip(_with(section, key, value), "")


@pytest.mark.parametrize(
    "key,value",
    [("patch_dropout", 0.5), ("attn_pooler_heads", 4), ("timm_pool", "avg"), ("qk_norm", False)],
)
def test_keys_without_influence_on_embeddings_are_accepted(key, value):
    config = architecture.from_open_clip(_with("vision_cfg", key, value), "")
    assert config == architecture.from_open_clip(STANDARD, "")


@pytest.mark.parametrize(
    "key,value",
    [
        ("model.text.pool", "gap"),
        ("model.image.pool", "map"),
        ("model.image.gelu", "quick"),
        ("input.preprocess_eval", "decode|resize_small(40)|central_crop(32)"),
        ("input.preprocess_eval", "decode|flip_lr"),
    ],
)
def test_what_open_clip_does_not_have_is_refused_by_name(key, value):
    config = random_clip.config(input__res=32)
    config.update_from_flattened_dict({key: value})
    with pytest.raises(CheckpointError, match=key.replace("image.gelu", r"\*.gelu")):
        architecture.to_open_clip(models.build(Settings(config.model)), config.input, "")


@pytest.mark.parametrize("width,mlp_dim", [(1664, 8192), (1152, 4304), (96, 384), (1280, 5119)])
def test_the_hidden_width_comes_back_from_its_ratio(width, mlp_dim):
    config = random_clip.config(model__image__width=width, model__image__mlp_dim=mlp_dim)
    config.model.image.num_heads = 1
    content = architecture.to_open_clip(models.build(Settings(config.model)), config.input, "")
    assert architecture.from_open_clip(content, "").model.image.mlp_dim == mlp_dim


def test_the_bias_of_the_logits_is_in_both_configs():
    config = random_clip.config(model__bias_init=-10.0)
    content = architecture.to_open_clip(models.build(Settings(config.model)), config.input, "")
    assert content["model_cfg"]["init_logit_bias"] == -10.0
    assert architecture.from_open_clip(content, "").model.bias_init == -10.0
    assert architecture.from_open_clip(STANDARD, "").model.bias_init is None


def test_a_config_from_open_clip_has_every_key_of_the_schema():
    ours, theirs = random_clip.config().model, architecture.from_open_clip(STANDARD, "").model
    assert set(theirs) == set(ours)
    for tower in ("image", "text"):
        assert set(theirs[tower]) == set(ours[tower])


@pytest.mark.parametrize(
    "text_cfg,vocabulary,expected",
    [
        ({}, "", "clip"),  # open_clip's own tokenizer
        ({"tokenizer_kwargs": {"clean": "canonicalize"}}, "", ""),
        ({"hf_tokenizer_name": "bert-base-uncased"}, "", ""),  # with [SEP]
        (
            {
                "hf_tokenizer_name": "google-bert/bert-base-uncased",
                "tokenizer_kwargs": {"strip_sep_token": True},
            },
            "",
            "bert-base-uncased",
        ),
        (
            {"hf_tokenizer_name": "x", "tokenizer_kwargs": {"strip_sep_token": True}},
            "DIR/vocab.txt",
            "DIR/vocab.txt",
        ),
        (
            {"hf_tokenizer_name": "x", "tokenizer_kwargs": {"strip_sep_token": True}},
            "",
            "",
        ),
    ],
)
def test_the_vocabulary_is_the_file_or_berts_or_none(text_cfg, vocabulary, expected):
    content = copy.deepcopy(STANDARD)
    content["model_cfg"]["text_cfg"] |= text_cfg
    assert architecture.from_open_clip(content, vocabulary).input.vocab == expected

"""What is not supported on the other side is refused by name, never dropped."""

import copy

import pytest

from clipa_jax import models
from clipa_jax.config.settings import Settings
from clipa_jax.errors import CheckpointError
from clipa_jax.weights import architecture

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
        ("vision_cfg", "image_size", [32, 48]),
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
def test_what_our_model_does_not_have_is_refused(section, key, value):
    with pytest.raises(CheckpointError, match=rf"{key}\b.*(support|divide)"):
        architecture.from_open_clip(_with(section, key, value), "")


@pytest.mark.parametrize(
    "key,value",
    [("patch_dropout", 0.5), ("attn_pooler_heads", 4), ("timm_pool", "avg"), ("qk_norm", False)],
)
def test_what_has_no_influence_is_accepted(key, value):
    config = architecture.from_open_clip(_with("vision_cfg", key, value), "")
    assert config == architecture.from_open_clip(STANDARD, "")


@pytest.mark.parametrize(
    "override,words",
    [
        ({"model__text__pool": "gap"}, "no text pooling like model.text.pool='gap'"),
        ({"model__image__pool": "map"}, "no image pooling like model.image.pool='map'"),
        ({"model__image__gelu": "quick"}, "quick GELU in both towers or in none"),
        ({"input__preprocess_eval": "decode|resize_small(40)|central_crop(32)"}, "no counterpart"),
        ({"input__preprocess_eval": "decode|flip_lr"}, "no counterpart"),
    ],
)
def test_what_open_clip_does_not_have_is_refused(
    tmp_path, export, make_config, make_weights, override, words
):
    config = make_config("mini/8", input__res=32, **override)
    with pytest.raises(CheckpointError, match=words):
        export(config, make_weights(config))
    assert not (tmp_path / "torch").exists()


def test_the_bias_of_the_logits_travels(make_config):
    config = make_config("mini/8", input__res=32, model__bias_init=-10.0)
    content = architecture.to_open_clip(models.build(Settings(config.model)), config.input, "")
    assert content["model_cfg"]["init_logit_bias"] == -10.0
    assert architecture.from_open_clip(content, "").model.bias_init == -10.0
    assert architecture.from_open_clip(STANDARD, "").model.bias_init is None


def test_the_config_has_every_key_that_ours_have(make_config):
    ours, made = make_config().model, architecture.from_open_clip(STANDARD, "").model
    assert set(made) == set(ours)
    for tower in ("image", "text"):
        assert set(made[tower]) == set(ours[tower])


@pytest.mark.parametrize(
    "text_cfg,vocabulary,expected",
    [
        ({}, "", ""),  # open_clip's own tokenizer
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
def test_the_vocabulary_is_ours_or_none(text_cfg, vocabulary, expected):
    content = copy.deepcopy(STANDARD)
    content["model_cfg"]["text_cfg"] |= text_cfg
    assert architecture.from_open_clip(content, vocabulary).input.vocab == expected

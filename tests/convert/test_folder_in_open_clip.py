"""Folders that we write, as open_clip reads them: tokenizer and preprocessing."""

import json

import numpy as np
import open_clip
import pytest
import sentencepiece
import tokenizers
from PIL import Image

from clipa_jax import models
from clipa_jax.config.settings import Settings
from clipa_jax.convert import convert, parity, tokenizer
from clipa_jax.data import pipeline
from clipa_jax.preprocess import registry
from clipa_jax.preprocess.text import load_tokenizer, make_tokenize
from clipa_jax.weights import architecture, open_weights
from tests.helpers import random_clip, small_stage


def test_the_tokenizer_in_the_folder_gives_our_tokens(exported):
    _, _, out = exported
    modes = {file.stat().st_mode for file in out.glob("open_clip_*")}
    assert len(modes) == 1
    line = json.loads((out / "parity.json").read_text())["tokenizer"]
    assert line.startswith("equal on 1005 texts") and line.endswith("input.clean=none")
    captions = [
        "red heart",
        "flag of France, Cote d'Ivoire & S\u00e3o Tom\u00e9",
        "face [SEP] with [PAD] tears\tof\njoy",
        "smile " * 40,
        "one o\u2019clock &amp; \u201ccaf\u00c3\u00a9\u201d, \ufb01eld",  # open_clip mends it
    ]
    theirs = open_clip.get_tokenizer(f"local-dir:{out}")(captions).numpy()
    ours = make_tokenize(open_weights(str(out)).config.input)
    np.testing.assert_array_equal(theirs, ours(captions))
    assert theirs.shape == (5, 12)
    assert len(set(theirs[3][1:])) == 1 and theirs[3][-1] != 0  # no place is lost to [SEP]


def test_the_tokenizer_is_ours_without_open_clips_cleaning(tmp_path):
    """Case folding, compatibility forms, words above 100 bytes: 483 of 4,000 strings differed."""
    ours = load_tokenizer("bert-base-uncased")
    tokenizer.write(ours.vocabulary, tmp_path)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    texts = ["Stra\u00dfe \u1e9e", "\u2026 \ufb01eld \u00bd", "\uff26\uff35\uff2c\uff2c width"]
    texts += ["\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22" * n for n in (4, 5, 6)]
    texts += ["\u044f" * 50, "\u044f" * 51, "\uac00" * 16, "\uac00" * 17, "x" * 100, "x" * 101]
    texts += parity.many_scripts()
    rows = [theirs.encode(text).ids[:64] for text in texts]
    padded = [row + [0] * (64 - len(row)) for row in rows]
    np.testing.assert_array_equal(padded, ours.encode(texts, 64))
    assert theirs.decode(theirs.encode("A caf\u00e9 in \u6771\u4eac").ids) == (
        "[CLS] a cafe in \u6771 \u4eac"
    )


def test_a_model_with_the_vocabulary_of_clip_gets_the_tokenizer_of_clip(export):
    config = random_clip.config(
        input__vocab="clip", model__text__vocab_size=49_408, model__text__pool="argmax"
    )
    out = export(config, random_clip.weights(config))
    captions = ["It\u2019s a dog &amp; a caf\u00e9", "smile " * 40]
    theirs = open_clip.get_tokenizer(f"local-dir:{out}")(captions).numpy()
    inputs = open_weights(str(out)).config.input
    assert inputs.vocab == "clip"
    np.testing.assert_array_equal(theirs, make_tokenize(inputs)(captions))


def test_a_sentencepiece_model_is_not_replaced_by_another_tokenizer(tmp_path, exported, export):
    config, leaves, _ = exported
    lines = (f"{word} and {word}s number {i}" for i, word in enumerate(["dog", "cat", "cow"] * 9))
    with open(tmp_path / "tiny.model", "wb") as model:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lines, model_writer=model, vocab_size=30, minloglevel=2
        )
    config = config.copy_and_resolve_references()
    config.input.vocab = str(tmp_path / "tiny.model")
    out = export(config, leaves)
    assert json.loads((out / "parity.json").read_text())["tokenizer"] == "not written"
    with pytest.raises((OSError, ValueError)):
        open_clip.get_tokenizer(f"local-dir:{out}")
    assert open_weights(str(out)).config.input.vocab == ""


@pytest.mark.parametrize(
    "spec,most,mean",
    [
        ("decode|resize({res})", 1, 0.2),
        # PIL cuts overshoots off after each of its two passes, we once.
        ("decode|resize({res}, method='bicubic')", 8, 0.2),
        # The long side may differ by a part of a pixel before the crop.
        ("decode|resize_small({res})|central_crop({res})", 8, 1),
    ],
)
def test_pictures_are_preprocessed_alike(spec, most, mean):
    config = random_clip.config(input__res=32, input__preprocess_eval=spec)
    model = models.build(Settings(config.model))
    cfg = architecture.to_open_clip(model, config.input, "x")["preprocess_cfg"]
    theirs = open_clip.transform.image_transform_v2(open_clip.transform.PreprocessCfg(**cfg), False)
    picture = _picture()
    pixels = theirs(Image.fromarray(picture)).numpy().transpose(1, 2, 0)
    pixels = (pixels * config.model.std + config.model.mean) * 255
    ops = registry.build(pipeline.fill(spec, config.input).removeprefix("decode|"))
    apart = np.abs(ops({"image": picture})["image"].numpy() - pixels)
    assert apart.max() <= most + 1e-3
    assert apart.mean() <= mean


def _picture() -> np.ndarray:
    """uint8 (80, 120, 3): waves, steps and noise."""
    y, x = np.mgrid[:80, :120]
    waves = 127 + 120 * np.sin(x / 9) * np.cos(y / 13)
    steps = 255.0 * ((x // 20 + y // 17) % 2)
    noise = np.random.default_rng(1).uniform(0, 255, (80, 120))
    return np.stack([waves, steps, noise], axis=2).astype(np.uint8)


def test_the_last_stage_of_a_workdir_becomes_a_folder(tmp_path):
    small_stage.stage(tmp_path / "W", small_stage.config())
    convert.to_torch(str(tmp_path / "W"), tmp_path / "torch")
    stage, folder = (open_weights(str(tmp_path / name)).read() for name in ("W", "torch"))
    np.testing.assert_array_equal(folder["txt/head/kernel"], stage["txt/head/kernel"])

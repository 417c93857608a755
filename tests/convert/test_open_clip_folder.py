"""The open_clip folder: its tokenizer, its preprocessing, and where it can be used."""

import json

import jax
import numpy as np
import open_clip
import optax
import pytest
import safetensors.torch
import sentencepiece
import torch
from PIL import Image

import clipa_jax
from clipa_jax import models, sharding
from clipa_jax.config.settings import Settings
from clipa_jax.convert import convert
from clipa_jax.data import pipeline
from clipa_jax.errors import CheckpointError, DataError
from clipa_jax.preprocess import registry
from clipa_jax.preprocess.text import make_tokenize
from clipa_jax.training import checkpoint, state, workdir
from clipa_jax.weights import architecture, open_clip_folder, open_weights, state_file


def test_folders_that_cannot_be_read_say_why(tmp_path):
    (tmp_path / open_clip_folder.CONFIG).write_text("{}")
    with pytest.raises(CheckpointError, match=f"but no {open_clip_folder.WEIGHTS}"):
        clipa_jax.load(str(tmp_path))
    (tmp_path / open_clip_folder.WEIGHTS).write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        clipa_jax.load(str(tmp_path))
    with pytest.raises(CheckpointError, match="it has no model_cfg"):
        open_clip_folder.to_ours(open_clip_folder.read_config(tmp_path), {}, tmp_path)
    (tmp_path / open_clip_folder.CONFIG).write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        open_clip_folder.read_config(tmp_path)


def test_weights_of_half_precision_become_float32(tmp_path):
    tensors = {"a": torch.tensor([1.5, -2.0], dtype=torch.bfloat16), "b": torch.tensor(3.0).half()}
    safetensors.torch.save_file(tensors, tmp_path / "x.safetensors")
    read = state_file.read(tmp_path / "x.safetensors")
    assert read["a"].dtype == read["b"].dtype == np.float32
    np.testing.assert_array_equal(read["a"], [1.5, -2.0])
    assert read["b"].shape == () and read["b"] == 3


def test_the_tokenizer_in_the_folder_gives_our_tokens(exported):
    _, _, out = exported
    modes = {file.stat().st_mode for file in out.glob("open_clip_*")}
    assert len(modes) == 1
    assert json.loads((out / "parity.json").read_text())["tokenizer"] == "equal on 5 captions"
    captions = [
        "red heart",
        "flag of France, Cote d'Ivoire & S\u00e3o Tom\u00e9",
        "face [SEP] with [PAD] tears\tof\njoy",
        "smile " * 40,
    ]
    theirs = open_clip.get_tokenizer(f"local-dir:{out}")(captions).numpy()
    ours = make_tokenize(open_weights(str(out)).config.input)
    np.testing.assert_array_equal(theirs, ours(captions))
    assert theirs.shape == (4, 12)
    assert len(set(theirs[3][1:])) == 1 and theirs[3][-1] != 0  # no place is lost to [SEP]


def test_without_a_wordpiece_vocabulary_no_other_tokenizer_is_used(tmp_path, exported, export):
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
def test_pictures_are_preprocessed_alike(make_config, spec, most, mean):
    config = make_config("mini/8", input__res=32, input__preprocess_eval=spec)
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


def test_a_stage_starts_from_an_open_clip_folder_and_becomes_one(tmp_path, exported, make_config):
    _, leaves, out = exported
    config = make_config("mini/8", input__res=48, input__text_len=16)
    settings = Settings(config)
    mesh = sharding.make_mesh()
    batch = {
        "image": jax.ShapeDtypeStruct((2, 48, 48, 3), np.uint8),
        "tokens": jax.ShapeDtypeStruct((2, 16), np.int32),
    }
    spec = state.make_spec(
        models.build(settings.model), optax.adam(1e-3), batch, mesh, settings.sharding
    )
    checkpoints = checkpoint.Checkpoints(str(tmp_path / "stage"))
    start = checkpoint.first_state(
        checkpoints,
        spec,
        seed=0,
        init=str(out),
        edits=("image_positions", "text_positions"),
        open_weights=open_weights,
    )
    checkpoints.save(start.state, {})
    checkpoints.close()
    assert int(start.state.step) == 0
    assert start.lines[1:] == ["txt/pos_embedding: (1, 12, 96) -> (1, 16, 96)"]
    head = start.state.params["img"]["head"]["kernel"]
    np.testing.assert_array_equal(head, leaves["img/head/kernel"])

    workdir.claim(tmp_path / "stage", config)
    convert.to_torch(str(tmp_path / "stage"), tmp_path / "next")
    again = open_weights(str(tmp_path / "next")).read()
    np.testing.assert_array_equal(again["txt/head/kernel"], leaves["txt/head/kernel"])

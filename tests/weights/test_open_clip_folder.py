"""Folders of open_clip, read and written without PyTorch."""

import json

import numpy as np
import pytest

import clipa_jax
from clipa_jax.errors import CheckpointError, UserError
from clipa_jax.weights import open_clip_folder, open_weights
from tests.helpers import random_clip


@pytest.fixture
def folder(tmp_path):
    config = random_clip.config(input__res=16)
    return random_clip.write_open_clip(tmp_path / "torch", config, random_clip.weights(config))


def test_files_of_a_folder_have_the_same_permissions(folder):
    assert len({file.stat().st_mode for file in folder.iterdir()}) == 1


def test_a_folder_without_a_state_dict_is_refused(folder):
    (folder / open_clip_folder.WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=f"but no {open_clip_folder.WEIGHTS}"):
        open_weights(str(folder))


@pytest.mark.parametrize("content,words", [("{}", "it has no model_cfg"), ("{", "is not JSON")])
def test_a_config_that_cannot_be_read_is_refused(folder, content, words):
    (folder / open_clip_folder.CONFIG).write_text(content)
    with pytest.raises(UserError, match=words):
        clipa_jax.load(str(folder))


def test_a_vocabulary_beside_the_state_dict_is_used(folder):
    assert open_weights(str(folder)).config.input.vocab == ""
    (folder / open_clip_folder.VOCABULARY).touch()
    vocabulary = str(folder / open_clip_folder.VOCABULARY)
    assert open_weights(str(folder)).config.input.vocab == vocabulary


def test_sincos_positions_are_recognized_by_their_numbers(folder):
    assert open_weights(str(folder)).config.model.image.posemb == "sincos2d"
    config = random_clip.config(input__res=16, model__image__posemb="learned")
    leaves = random_clip.weights(config)
    learned = random_clip.write_open_clip(folder / "learned", config, leaves)
    weights = open_weights(str(learned))
    assert weights.config.model.image.posemb == "learned"
    table = weights.read()["img/pos_embedding"]
    np.testing.assert_array_equal(table, leaves["img/pos_embedding"])


def test_the_config_names_the_file_that_is_read(folder):
    content = json.loads((folder / open_clip_folder.CONFIG).read_text())
    content["model_cfg"]["embed_dim"] = 64
    (folder / open_clip_folder.CONFIG).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="img/head/kernel: shape .* expected"):
        clipa_jax.load(str(folder))

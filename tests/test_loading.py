"""The face of a loaded model: what it takes, what it refuses, and what it prints."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

import clipa_jax
from clipa_jax.errors import CheckpointError, DataError
from clipa_jax.models import positions
from clipa_jax.weights import open_clip_folder
from tests.helpers import loopback_hub, random_clip, small_stage

RES = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    config = random_clip.config(input__res=RES, model__image__posemb="learned")
    path = tmp_path_factory.mktemp("weights") / "torch"
    random_clip.write_open_clip(path, config, random_clip.weights(config))
    content = json.loads((path / open_clip_folder.CONFIG).read_text())
    content["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "bert-base-uncased"
    (path / open_clip_folder.CONFIG).write_text(json.dumps(content))
    (path / open_clip_folder.VOCABULARY).write_bytes(Path(random_clip.VOCAB).read_bytes())
    return path


@pytest.fixture(scope="module")
def model(folder):
    return clipa_jax.load(str(folder))


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((20, 30), (16, 16), (40, 17))]


def test_pictures_are_taken_as_pil_images_paths_bytes_and_arrays(model, pictures, tmp_path):
    expected = model.encode_image(pictures)
    assert expected.shape == (3, 128) and expected.dtype == np.float32
    images = [Image.fromarray(picture) for picture in pictures]
    paths = []
    for number, image in enumerate(images):
        paths.append(tmp_path / f"{number}.png")
        image.save(paths[-1])
    encoded = [path.read_bytes() for path in paths]
    for kind in (images, paths, [str(path) for path in paths], encoded):
        np.testing.assert_array_equal(model.encode_image(kind), expected)
    mixed = [images[0], paths[1], pictures[2]]
    np.testing.assert_array_equal(model.encode_image(mixed), expected)
    for single in (images[0], paths[0], str(paths[0]), encoded[0]):
        np.testing.assert_allclose(model.encode_image(single), expected[:1], atol=1e-6)


def test_a_transparent_pil_image_is_laid_on_white_as_its_file_is(model, tmp_path):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (20, 20, 4), np.uint8))
    image.save(tmp_path / "x.png")
    file = model.encode_image([tmp_path / "x.png"])
    np.testing.assert_array_equal(model.encode_image([image]), file)


def test_nothing_gives_no_embeddings(model):
    for empty in ([], np.zeros((0, RES, RES, 3), np.uint8)):
        assert model.encode_image(empty).shape == (0, 128)
    for empty in ([], np.zeros((0, 12), np.int32)):
        assert model.encode_text(empty).shape == (0, 128)


@pytest.mark.parametrize(
    "picture,words",
    [
        (np.zeros((4, 4, 4), np.uint8), r"picture 1 is uint8 \(4, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), r"picture 1 is uint8 \(0, 4, 3\)"),
        (np.zeros((4, 4, 3), np.float32), r"picture 1 is float32 \(4, 4, 3\)"),
        (None, "picture 1 is object"),
        ("nowhere.png", "no file nowhere.png"),
        (b"text", "picture 1 is not a picture"),
        (np.full((16, 16, 3), np.nan, np.float32), "picture 1 has values that are not finite"),
    ],
)
def test_what_is_no_picture_is_named(model, pictures, picture, words):
    with pytest.raises(DataError, match=words):
        model.encode_image([pictures[0], picture])


def test_token_ids_are_taken_as_arrays_and_lists(model):
    expected = model.encode_text(["a dog", "two cats"])
    tokens_BL = model.tokenize(["a dog", "two cats"])
    for ids in (tokens_BL, tokens_BL.tolist(), list(tokens_BL), tokens_BL.astype(np.int64)):
        np.testing.assert_array_equal(model.encode_text(ids), expected)


@pytest.mark.parametrize(
    "texts,words",
    [
        ([[0] * 11 + [2_500]], "token ids from 0 to 2500; the model has 0 to 2499"),
        ([[-1] * 12], "token ids from -1"),
        ([[0] * 11], r"got int64 \(1, 11\); expected strings, or token ids \(B, 12\)"),
        ([[0] * 11, [0] * 12], "expected strings, or token ids"),
        (["a dog", 3], "expected strings, or token ids"),
        ([[0.5] * 12], "got float64"),
    ],
)
def test_other_ids_than_the_models_are_refused_and_give_no_nan(model, texts, words):
    with pytest.raises(DataError, match=words):
        model.encode_text(texts)


def test_learned_positions_are_resized_on_request(folder, model, pictures):
    larger = clipa_jax.load(str(folder), res=24)
    assert larger.res == 24 and larger.encode_image(pictures).shape == (3, 128)
    table = model.params["img"]["pos_embedding"]
    expected = positions.resize_2d(table, 9)
    np.testing.assert_array_equal(larger.params["img"]["pos_embedding"], expected)


def test_positions_of_a_grid_that_is_no_square_are_resized_on_request(folder, tmp_path):
    content = json.loads((folder / open_clip_folder.CONFIG).read_text())
    content["model_cfg"]["vision_cfg"]["image_size"] = [32, 16]
    state = safetensors.numpy.load_file(folder / open_clip_folder.WEIGHTS)
    # Two columns; the values change along the rows alone.
    rows = np.repeat(np.arange(4.0, dtype=np.float32), 2)
    width = state["visual.positional_embedding"].shape[1]
    state["visual.positional_embedding"] = np.tile(np.r_[9, rows][:, None], width).astype("f")
    (tmp_path / open_clip_folder.CONFIG).write_text(json.dumps(content))
    safetensors.numpy.save_file(state, tmp_path / open_clip_folder.WEIGHTS)
    (tmp_path / open_clip_folder.VOCABULARY).write_bytes(Path(random_clip.VOCAB).read_bytes())
    with pytest.raises(CheckpointError, match=r"is for pictures of 4 x 2 patches; pass res="):
        clipa_jax.load(str(tmp_path))
    table = clipa_jax.load(str(tmp_path), res=16).params["img"]["pos_embedding"][0, :, 0]
    assert table[0] == 9 and table[1] == table[2] < table[3] == table[4]


SCRIPT = """
import sys, clipa_jax
for path in sys.argv[1:]:
    model = clipa_jax.load(path)
    assert model.encode_text(["a dog"] if model.config.input.vocab else [[0] * 12]).shape[0] == 1
"""


def test_a_script_loads_by_name_and_from_a_workdir_and_prints_nothing(folder, tmp_path):
    small_stage.stage(tmp_path / "W", small_stage.config("only"))
    with loopback_hub.serve() as hub:
        hub.add("UCSC-VLAA/ViT-L-14-CLIPA-datacomp1B", folder)
        environment = {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hf"),
            "JAX_PLATFORMS": "",
            "HOME": str(tmp_path),
            "PATH": "",
        }
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, "clipa-l14-datacomp1b", str(tmp_path / "W")],
            env=environment,
            capture_output=True,
            text=True,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

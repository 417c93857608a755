"""The model computes what the released CLIPA code computed (golden/README.md)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import clipa_jax
from clipa_jax import models, trees
from clipa_jax.config.settings import Settings
from clipa_jax.models import surgery
from clipa_jax.training import state
from tests.helpers import released

TOLERANCE = 2e-5  # largest absolute difference of unit-length embeddings, float32


@pytest.fixture(scope="module")
def recorded():
    return released.arrays("forward")


def encode(config, weights, image, tokens):
    """(image embeddings, their lengths before, the same of the texts, inverse temperature)."""
    model = models.build(Settings(config.model))
    params = trees.unflatten(weights)

    @jax.jit
    def run(params, image, tokens):
        def towers(clip):
            zimg, ztxt = clip.img(clip.normalize(image)), clip.txt(tokens)
            lengths = [jnp.linalg.norm(z, axis=1, keepdims=True) for z in (zimg, ztxt)]
            return clip.encode_image(image), clip.encode_text(tokens), *lengths, clip.scale()

        return model.apply({"params": params}, method=towers)

    with jax.default_matmul_precision("highest"):
        return run(params, image, tokens)


def furthest(a, b):
    return float(np.abs(np.asarray(a) - b).max())


def test_embeddings_equal_the_released_model_at_recorded_lengths(recorded):
    got = encode(released.config(), released.weights(), recorded["image"], recorded["tokens"])
    zimg, ztxt, img_norm, txt_norm, scale = got
    assert furthest(zimg, recorded["zimg"]) < TOLERANCE
    assert furthest(ztxt, recorded["ztxt"]) < TOLERANCE
    np.testing.assert_allclose(img_norm, recorded["img_norm"], rtol=TOLERANCE)
    np.testing.assert_allclose(txt_norm, recorded["txt_norm"], rtol=TOLERANCE)
    np.testing.assert_allclose(scale, recorded["t"][0], rtol=1e-6)


def test_embeddings_equal_the_released_model_after_surgery_to_other_lengths(recorded):
    config = released.config(res=112, text_len=16)
    shapes = state.param_shapes(models.build(Settings(config.model)), res=112, text_len=16)
    edits = ("image_positions", "text_positions")
    weights, lines = surgery.apply(edits, released.weights(), trees.flatten(shapes), dict)
    assert lines == ["txt/pos_embedding: (1, 8, 48) -> (1, 16, 48)"]
    resized = weights["txt/pos_embedding"]
    assert furthest(resized, recorded["txt_pos_embedding2"]) < 1e-6
    zimg, ztxt, *_ = encode(config, weights, recorded["image2"], recorded["tokens2"])
    assert furthest(zimg, recorded["zimg2"]) < TOLERANCE
    assert furthest(ztxt, recorded["ztxt2"]) < TOLERANCE


def test_load_gives_the_recorded_embeddings(recorded):
    file = released.GOLDEN / "clipa_checkpoint.npz"
    model = clipa_jax.load(str(file), config=released.config())
    assert furthest(model.encode_image(recorded["image"]), recorded["zimg"]) < TOLERANCE
    assert furthest(model.encode_text(recorded["tokens"]), recorded["ztxt"]) < TOLERANCE
    assert model.logit_scale == pytest.approx(recorded["t"][0], rel=1e-6)


@pytest.mark.parametrize("key", ["gelu", "norm_eps"])
def test_open_clip_numerics_change_the_embeddings(recorded, key):
    """The tolerance is tight enough to tell tanh from exact GELU and 1e-6 from 1e-5."""
    config = released.config()
    other = {"gelu": "exact", "norm_eps": 1e-5}[key]
    config.model.image[key] = config.model.text[key] = other
    zimg, ztxt, *_ = encode(config, released.weights(), recorded["image"], recorded["tokens"])
    differences = furthest(zimg, recorded["zimg"]), furthest(ztxt, recorded["ztxt"])
    assert max(differences) > 5 * TOLERANCE

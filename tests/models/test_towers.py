"""Pools, masks, normalization and the variants of the arithmetic."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipa_jax import models, trees
from clipa_jax.config import schema
from clipa_jax.config.settings import Settings
from clipa_jax.errors import ConfigError
from clipa_jax.models import clip, layers, positions, sizes, vit
from clipa_jax.training import state
from tests.helpers import tiny


def outputs(c, params=None, keep=None, batch=None):
    """(image embeddings, text embeddings, inverse temperature) as numpy."""
    model, drawn = tiny.init(c)
    rows = tiny.batch(c) if batch is None else batch
    params = drawn if params is None else params
    got = _compiled(model)(params, rows["image"], rows["tokens"], keep)
    return jax.tree.map(np.asarray, got)


@functools.cache
def _compiled(model):
    return tiny.jit(lambda params, *inputs: model.apply({"params": params}, *inputs))


def test_embeddings_have_unit_length_in_float32():
    zimg, ztxt, scale = outputs(tiny.config(model__dtype="bfloat16"))
    for z in (zimg, ztxt):
        assert z.shape == (16, 8)
        assert z.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(scale, 10, rtol=1e-6)


def test_an_embedding_does_not_depend_on_the_rest_of_the_batch():
    c = tiny.config()
    rows = tiny.batch(c)
    whole = outputs(c)
    part = outputs(c, batch={name: row[:3] for name, row in rows.items()})
    np.testing.assert_allclose(whole[0][:3], part[0], atol=1e-6)
    np.testing.assert_allclose(whole[1][:3], part[1], atol=1e-6)


def test_remat_changes_no_gradient():
    def grads(policy):
        c = tiny.config(model__image__remat=policy, model__text__remat=policy)
        model, params = tiny.init(c)
        rows = tiny.batch(c)

        def loss(params):
            zimg, ztxt, _ = model.apply({"params": params}, rows["image"], rows["tokens"])
            return jnp.sum(zimg * ztxt)

        return trees.flatten(tiny.jit(jax.grad(loss))(params))

    plain = grads("none")
    for policy in ("full", "dots_no_batch", "qkv+attention+hidden"):
        for name, grad in grads(policy).items():
            np.testing.assert_allclose(grad, plain[name], atol=1e-5, err_msg=f"{policy} {name}")


def test_bfloat16_computes_in_bfloat16_with_float32_parameters():
    c = tiny.config(model__dtype="bfloat16")
    _, params = tiny.init(c)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    short, exact = outputs(c), outputs(tiny.config())
    for z, other in zip(short[:2], exact[:2], strict=True):
        difference = np.abs(z - other).max()
        assert 1e-5 < difference < 3e-2


@pytest.mark.parametrize("name", ["gap", "tok"])
def test_image_pooling_equals_a_computation_by_hand(monkeypatch, name):
    """The class token attends, but is left out of the mean; the norm comes after it."""
    seen = {}
    pool = vit.ViT._pool

    def spy(self, x_BPD):
        seen["x"] = x_BPD
        return pool(self, x_BPD)

    monkeypatch.setattr(vit.ViT, "_pool", spy)
    c = tiny.config(model__image__pool=name)
    model, params = tiny.init(c)
    image = tiny.batch(c)["image"]

    def embed(params):
        z = model.apply({"params": params}, image, method=lambda m, x: m.img(m.normalize(x)))
        return z, seen["x"]

    got, x_BPD = jax.device_get(jax.jit(embed)(params))
    x_BPD = x_BPD.astype(np.float64)
    x_BD = x_BPD[:, 1:].mean(axis=1) if name == "gap" else x_BPD[:, 0]
    norm = params["img"]["encoder_norm"]
    x_BD = (x_BD - x_BD.mean(-1, keepdims=True)) / np.sqrt(x_BD.var(-1, keepdims=True) + 1e-6)
    expected = (x_BD * norm["scale"] + norm["bias"]) @ params["img"]["head"]["kernel"]
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_map_pooling_has_its_own_parameters():
    c = tiny.config(model__image__pool="map", model__text__pool="map")
    _, params = tiny.init(c)
    names = trees.flatten(params)
    assert names["img/MAPHead_0/probe"].shape == (1, 1, 16)
    assert "txt/MAPHead_0/MultiHeadDotProductAttention_0/query/kernel" in names
    zimg, ztxt, _ = outputs(c)
    assert np.isfinite(zimg).all() and np.isfinite(ztxt).all()
    assert np.ptp(zimg, axis=0).max() > 1e-4  # it depends on the picture


@pytest.mark.parametrize(("pool", "position"), [("last", 3), ("first", 0), ("argmax", 2)])
def test_text_pools_take_one_position(pool, position):
    """Without layers, the pooled position alone decides; with `argmax` the largest id."""
    c = tiny.config(model__text__pool=pool)
    _, params = tiny.init(c)
    params["txt"]["Transformer"] = jax.tree.map(np.zeros_like, params["txt"]["Transformer"])
    rows = tiny.batch(c)
    rows["tokens"] = np.array([[5, 3, 31, 7], [5, 3, 31, 7]], np.int32)
    rows["image"] = rows["image"][:2]
    before = outputs(c, params, batch=rows)[1]
    for place in range(4):
        rows["tokens"][1] = [5, 3, 31, 7]
        rows["tokens"][1, place] = 30 if place == 2 else 9
        _, ztxt, _ = outputs(c, params, batch=rows)
        changed = np.abs(ztxt[1] - before[1]).max() > 1e-4
        assert changed == (place == position)


def test_text_gap_is_the_mean_of_all_positions():
    c = tiny.config(model__text__pool="gap")
    _, params = tiny.init(c)
    params["txt"]["pos_embedding"] = np.zeros_like(params["txt"]["pos_embedding"])
    rows = tiny.batch(c)
    one = outputs(c, params, batch=rows)[1]
    rows["tokens"] = rows["tokens"][:, ::-1]
    np.testing.assert_allclose(outputs(c, params, batch=rows)[1], one, atol=1e-5)


def test_a_causal_text_tower_does_not_look_ahead():
    rows = tiny.batch(tiny.config())
    later = {**rows, "tokens": rows["tokens"].copy()}
    later["tokens"][:, 2:] = (later["tokens"][:, 2:] + 1) % 32
    for causal in (True, False):
        c = tiny.config(model__text__pool="first", model__text__causal=causal)
        same = np.abs(outputs(c, batch=rows)[1] - outputs(c, batch=later)[1]).max() < 1e-6
        assert same == causal


def test_masked_patches_do_not_change_the_embedding():
    c = tiny.config()
    rows = tiny.batch(c)
    keep_BK = np.tile(np.array([0, 1, 4, 5], np.int32), (16, 1))  # the corner of 8 x 8 pixels
    before = outputs(c, keep=keep_BK, batch=rows)[0]
    elsewhere = {**rows, "image": rows["image"].copy()}
    elsewhere["image"][:, 8:] = 0
    elsewhere["image"][:, :, 8:] = 0
    np.testing.assert_allclose(outputs(c, keep=keep_BK, batch=elsewhere)[0], before, atol=1e-6)
    assert np.abs(outputs(c, batch=elsewhere)[0] - before).max() > 1e-3


def test_keeping_all_patches_equals_no_mask():
    c = tiny.config()
    keep_BK = np.tile(np.arange(16, dtype=np.int32), (16, 1))
    np.testing.assert_allclose(outputs(c, keep=keep_BK)[0], outputs(c)[0], atol=1e-6)


def test_learned_positions_have_a_class_row():
    _, params = tiny.init(tiny.config(model__image__posemb="learned"))
    assert params["img"]["pos_embedding"].shape == (1, 1 + 16, 16)
    _, params = tiny.init(tiny.config())
    assert "pos_embedding" not in params["img"]


def test_patch_embedding_equals_a_convolution(monkeypatch):
    """All the rest of the tower is taken away, so that its output is the mean of the patches."""
    monkeypatch.setattr(layers.Transformer, "__call__", lambda self, x_BTD: x_BTD)
    monkeypatch.setattr(vit.ViT, "_pool", lambda self, x_BPD: x_BPD[:, 1:])
    c = tiny.config()
    model, params = tiny.init(c)
    image = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
    kernel, head = params["img"]["embedding"]["kernel"], params["img"]["head"]["kernel"]
    assert kernel.shape == (4, 4, 3, 16)
    got = jax.jit(model.img.apply)({"params": params["img"]}, image)
    conv = jax.lax.conv_general_dilated(
        image, kernel, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    expected = (conv.reshape(2, 16, 16) + positions.sincos_2d(4, 16)) @ head
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_uint8_is_normalized_and_float_is_not():
    c = tiny.config()
    rows = tiny.batch(c)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    ready = ((rows["image"] / 255 - mean) / std).astype(np.float32)
    got = outputs(c, batch={**rows, "image": ready})[0]
    np.testing.assert_allclose(got, outputs(c)[0], atol=1e-5)


def test_images_that_do_not_divide_into_patches_are_refused():
    model, params = tiny.init(tiny.config())
    with pytest.raises(ConfigError, match="18x18 pixels do not divide into patches of 4; nearest"):
        model.apply({"params": params}, jnp.zeros((1, 18, 18, 3)), method="encode_image")


@pytest.mark.parametrize(("maximum", "expected"), [(100.0, 100.0), (None, np.exp(6.0))])
def test_the_inverse_temperature_has_a_cap(maximum, expected):
    scale = clip.inverse_temperature(jnp.array([6.0]), maximum)
    assert scale.shape == ()
    np.testing.assert_allclose(scale, expected, rtol=1e-6)


def test_attention_equals_a_float64_computation():
    """Against float64: softmax(q k / sqrt(width of a head)) v."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 12))
    model, _ = tiny.init(tiny.config())
    attention = layers.Attention(dataclasses.replace(model.img.config, num_heads=3))
    params = attention.init(jax.random.key(0), x, x)["params"]
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) * 0.4, params)
    got = attention.apply({"params": params}, x.astype(np.float32), x.astype(np.float32))
    project = lambda name: np.einsum("btd,dhk->bthk", x, params[name]["kernel"])  # noqa: E731
    q, k, v = (project(name) + params[name]["bias"] for name in ("query", "key", "value"))
    weights = np.exp(np.einsum("bthk,bshk->bhts", q, k) / 2)  # a head is 4 wide
    weights /= weights.sum(-1, keepdims=True)
    mixed = np.einsum("bhts,bshk->bthk", weights, v)
    expected = np.einsum("bthk,hkd->btd", mixed, params["out"]["kernel"]) + params["out"]["bias"]
    np.testing.assert_allclose(got, expected, atol=1e-5)


GELU = {"tanh": 0.841192, "exact": 0.841345, "quick": 0.845796}


@pytest.mark.parametrize("name", sorted(GELU))
def test_gelu_variants_at_1(name):
    np.testing.assert_allclose(layers.GELU[name](jnp.float32(1.0)), GELU[name], atol=1e-6)


# As in recipes.md: width, depth, MLP, heads of the image and of the text tower, embedding.
SIZES = {
    "S/16": ((384, 12, 1536, 6), (384, 12, 1536, 6), 384),
    "B/16": ((768, 12, 3072, 12), (512, 12, 2048, 8), 512),
    "L/14": ((1024, 24, 4096, 16), (768, 12, 3072, 12), 768),
    "L/16": ((1024, 24, 4096, 16), (768, 12, 3072, 12), 768),
    "H/14": ((1280, 32, 5120, 16), (1024, 24, 4096, 16), 1024),
    "G/14": ((1664, 48, 8192, 16), (1280, 32, 5120, 20), 1280),
}


@pytest.mark.parametrize("name", SIZES)
def test_model_sizes_are_those_of_the_paper(name):
    image, text, embed = SIZES[name]
    size, patch = sizes.parse(name)
    assert patch == int(name.split("/")[1])
    for tower, row in ((size.image, image), (size.text, text)):
        assert (tower.width, tower.depth, tower.mlp_dim, tower.num_heads) == row
    assert size.embed_dim == embed


def test_the_parameters_of_h_14_counted_by_hand():
    c = schema.default()  # H/14
    model = models.build(Settings(c.model))
    count = trees.count(state.param_shapes(model, res=84, text_len=8))

    def layer(width, hidden):
        attention = 4 * (width * width + width)
        return attention + 2 * width * hidden + hidden + width + 4 * width

    image = 14 * 14 * 3 * 1280 + 1280 + 32 * layer(1280, 5120) + 2 * 1280 + 1280 * 1024
    text = 32_000 * 1024 + 8 * 1024 + 24 * layer(1024, 4096) + 2 * 1024 + 1024 * 1024
    assert count == image + text + 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("X/14", "unknown model size 'X'"),
        ("H14", "unknown model size 'H14'; nearest: H/14"),
        ("H", "model size 'H' lacks the patch size; write for example H/14"),
        ("H/x", "lacks the patch size"),
    ],
)
def test_malformed_model_sizes_are_refused(name, said):
    with pytest.raises(ConfigError, match=said):
        sizes.parse(name)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("model.image.pool", "gpa", "nearest: gap"),
        ("model.text.pool", "cls", "unknown config.model.text.pool"),
        ("model.image.posemb", "sincos", "nearest: sincos2d"),
        ("model.text.gelu", "tan", "nearest: tanh"),
        ("model.dtype", "float16", "unknown config.model.dtype"),
        ("model.image.num_heads", 3, "a width of 16 is not divisible by 3 heads"),
        ("model.temperature_init", 0.0, "temperature_init=0.0 must be above 0"),
        ("model.std", (0.2, 0.2), "expected red, green and blue"),
        ("model.std", (0.2, 0.0, 0.2), "expected red, green and blue"),
    ],
)
def test_impossible_model_values_are_refused(key, value, said):
    c = tiny.config()
    c.update_from_flattened_dict({key: value})
    with pytest.raises(ConfigError, match=said):
        models.build(Settings(c).model)


def test_models_build_reads_every_key_of_the_model_section():
    settings = Settings(tiny.config())
    models.build(settings.model)
    assert settings.model.unread() == []

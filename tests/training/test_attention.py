"""Packed attention in training: refused by name, and compared with XLA's before the first step."""

import types

import jax
import numpy as np
import pytest

from clipa_jax import models
from clipa_jax.config.settings import Settings
from clipa_jax.errors import ConfigError
from clipa_jax.models import packed
from clipa_jax.training import attention
from tests.helpers import tiny


def config(**overrides):
    c = tiny.config(model__attention="packed", model__dtype="bfloat16", model__layers="scanned")
    c.input.text_len = 8
    for tower in (c.model.image, c.model.text):
        tower.update(width=128, num_heads=1)
    c.update_from_flattened_dict({key.replace("__", "."): x for key, x in overrides.items()})
    return c


def check(c, mesh=None, text_tokens=8):
    attention.check(models.build(Settings(c.model)), mesh or tiny.mesh(), 17, text_tokens)


def test_a_supported_stage_is_accepted():
    check(config())


def test_tensor_parallelism_is_refused():
    with pytest.raises(ConfigError, match=r"packed with mesh.tensor=2: .*set mesh.tensor=1"):
        check(config(), tiny.mesh(2, tensor=2))


def test_float32_is_refused():
    with pytest.raises(ConfigError, match="packed with model.dtype=float32: .*set model.dtype=bf"):
        check(config(model__dtype="float32"))


def test_text_of_four_tokens_is_refused():
    with pytest.raises(ConfigError, match="packed does not support sequences of 4 .*nearest: 8;"):
        check(config(), text_tokens=4)


def test_other_devices_than_tpu_and_cpu_are_refused():
    device = types.SimpleNamespace(platform="gpu")
    mesh = types.SimpleNamespace(devices=np.array([device]), shape={"tensor": 1})
    with pytest.raises(ConfigError, match="packed on gpu: .*use model.attention=auto"):
        check(config(), mesh)


def test_the_default_of_the_config_is_not_packed():
    model = models.build(Settings(tiny.config().model))
    assert model.img.config.attention == model.txt.config.attention == "auto"


@pytest.fixture
def compiled_quickly():
    """Programs that run a few times only."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def compare(c, mesh, image_tokens):
    attention.compare(tiny.make_spec(c, mesh), mesh, tiny.init(c)[1], image_tokens)


@pytest.mark.usefixtures("compiled_quickly")
def test_kernels_that_agree_with_xla_pass_with_a_warning_on_cpu(caplog):
    compare(config(), tiny.mesh(2), image_tokens=9)
    assert "interpret mode" in caplog.text


@pytest.mark.usefixtures("compiled_quickly")
def test_a_wrong_kernel_stops_the_run(monkeypatch):
    """Twice the bias of the values, which is a small part of a tower."""

    def wrong(z_NE, bias_E, tiling):
        z_BTSHK = (z_NE + 2 * bias_E).reshape(-1, tiling.tokens, 3, tiling.heads, tiling.head_width)
        q, k, v = (z_BTSHK[:, :, index] for index in range(3))
        return jax.nn.dot_product_attention(q, k, v).reshape(len(z_NE), -1).astype(z_NE.dtype)

    monkeypatch.setattr(packed, "attention", wrong)
    with pytest.raises(ConfigError, match="packed differs from xla .*Use model.attention=xla"):
        compare(config(), tiny.mesh(), image_tokens=17)

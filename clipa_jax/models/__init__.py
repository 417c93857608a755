"""The model, built from the `model` section of a config."""

import dataclasses
from typing import Any

import jax.numpy as jnp

from clipa_jax.config.settings import Settings, choice
from clipa_jax.errors import ConfigError
from clipa_jax.models import layers, text, vit
from clipa_jax.models.clip import CLIP
from clipa_jax.models.sizes import Tower, parse

__all__ = ["CLIP", "build", "with_options"]

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
SIZE_KEYS = tuple(field.name for field in dataclasses.fields(Tower))


def build(config: Settings) -> CLIP:
    """The two-tower model of the `model` section that `clipa_jax/config/schema.py` declares."""
    size, patch_size = parse(config.size)
    shared = {
        "embed_dim": config.embed_dim or size.embed_dim,
        "attention": choice(config, "attention", layers.ATTENTION),
        "layers": choice(config, "layers", layers.LAYERS),
        "unroll": config.unroll,
        "dtype": DTYPES[choice(config, "dtype", DTYPES)],
    }
    choice(config.image, "posemb", vit.POSEMB)
    sizes = _sizes(config.image, size.image, vit.POOL)
    image = config.image.call(
        vit.ImageConfig, skip=SIZE_KEYS, patch_size=patch_size, causal=False, **sizes, **shared
    )
    sizes = _sizes(config.text, size.text, text.POOL)
    words = config.text.call(text.TextConfig, skip=SIZE_KEYS, **sizes, **shared)
    if config.temperature_init <= 0:
        raise ConfigError(f"model.temperature_init={config.temperature_init} must be above 0")
    return CLIP(
        img=vit.ViT(image),
        txt=text.TextTransformer(words),
        temperature_init=config.temperature_init,
        temperature_max=config.temperature_max,
        mean=_color(config, "mean"),
        std=_color(config, "std"),
        bias_init=config.bias_init,
    )


def with_options(model: CLIP, **options: Any) -> CLIP:
    """The model with other options of both towers, such as `attention`, `dtype` or `remat`."""
    towers: dict[str, Any] = {
        name: tower.clone(config=dataclasses.replace(tower.config, **options))
        for name, tower in (("img", model.img), ("txt", model.txt))
    }
    return model.clone(**towers)


def _color(config: Settings, key: str) -> tuple[float, float, float]:
    values = tuple(config[key])
    if len(values) != 3 or (key == "std" and min(values) <= 0):
        raise ConfigError(
            f"model.{key}={values}: expected red, green and blue on a scale of 0 to 1"
        )
    return values


def _sizes(config: Settings, default: Tower, pools: tuple[str, ...]) -> dict[str, Any]:
    """The tower's sizes: from the config where it gives them, else from the table."""
    choice(config, "pool", pools)
    choice(config, "gelu", layers.GELU)
    layers.remat_policy(config.remat)
    sizes = {key: config[key] or getattr(default, key) for key in SIZE_KEYS}
    if sizes["width"] % sizes["num_heads"]:
        raise ConfigError(
            f"a width of {sizes['width']} is not divisible by {sizes['num_heads']} heads"
        )
    return sizes

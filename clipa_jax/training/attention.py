"""Checks of packed attention: its support, and its results against XLA's when training starts.

B samples, R pixels a side, L text tokens, K kept patches, E embedding.
"""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging
from jax.sharding import Mesh

from clipa_jax import models, sharding, trees
from clipa_jax.config.batch import IMAGE, TOKENS
from clipa_jax.errors import ConfigError
from clipa_jax.models import CLIP, layers
from clipa_jax.training.state import StateSpec

SAMPLES = 64  # of each device that are compared, at most
# The error allowed to packed attention, in the Euclidean norm of a tensor against float32: twice
# that of XLA's attention in bfloat16, which shares all other roundings, and two roundings of 2^-8.
XLA_ERRORS = 2.0
ROUNDING = 2 * 2.0**-8

Errors = dict[str, jax.Array]


def check(model: CLIP, mesh: Mesh, image_tokens: int, text_tokens: int) -> None:
    """Raises `ConfigError` where a model with packed attention cannot be trained.

    Tokens are those of a training sample, the class token included.
    """
    if not is_packed(model):
        return
    platform = mesh.devices.flat[0].platform
    if platform not in ("tpu", "cpu"):
        raise ConfigError(
            f"model.attention=packed on {platform}: the kernels are for TPU; use "
            "model.attention=auto"
        )
    if mesh.shape["tensor"] > 1:
        raise ConfigError(
            f"model.attention=packed with mesh.tensor={mesh.shape['tensor']}: the kernels take all "
            "heads of a tower; set mesh.tensor=1, or use model.attention=xla"
        )
    layers.tile(model.img.config, image_tokens)
    layers.tile(model.txt.config, text_tokens)


def is_packed(model: CLIP) -> bool:
    """Whether the towers use packed attention."""
    return model.img.config.attention == "packed"


def compare(spec: StateSpec, mesh: Mesh, params: Any, image_tokens: int) -> None:
    """Compares packed attention with XLA's on one batch of noise; does nothing for other models.

    Embeddings and gradients of all parameters, each against those of XLA's attention in float32.
    Raises `ConfigError` if packed attention is less exact than XLA's in bfloat16, see `XLA_ERRORS`.
    """
    if not is_packed(spec.model):
        return
    if mesh.devices.flat[0].platform == "cpu":
        logging.warning(
            "model.attention=packed on a CPU runs in the interpret mode of Pallas, which is slow "
            "and meant for tests; use model.attention=auto"
        )
    logging.info(
        "packed attention agrees with xla; %s", agreement(spec, mesh, params, image_tokens)
    )


def agreement(spec: StateSpec, mesh: Mesh, params: Any, image_tokens: int) -> str:
    """Compares the model's attention with XLA's as `compare` does; the closest call as a sentence.

    Raises `ConfigError` where they differ.
    """
    xla = models.with_options(spec.model, attention="xla")
    float32 = models.with_options(xla, dtype=jnp.float32)

    def run(function: Callable[..., Any], *args: Any) -> Any:
        return jax.jit(sharding.on(mesh, function))(*args)

    def errors(model: CLIP) -> dict[str, float]:
        def distances(params: Any, exact: Any) -> Errors:
            results = _results(model, spec, mesh, params, image_tokens)
            return _norms(jax.tree.map(jnp.subtract, results, exact))

        return {name: float(value) for name, value in run(distances, params, exact).items()}

    with jax.default_matmul_precision("highest"):
        exact = run(lambda params: _results(float32, spec, mesh, params, image_tokens), params)
    norms = {name: float(value) for name, value in run(_norms, exact).items()}
    name = spec.model.img.config.attention
    return _judge(name, errors(spec.model), errors(xla), norms)


def _results(model: CLIP, spec: StateSpec, mesh: Mesh, params: Any, image_tokens: int) -> Any:
    """Float32 embeddings of noise, and gradients of their products with random directions."""
    parts = sharding.data_parallel(mesh)
    rows = min(spec.batch[IMAGE].shape[0] // parts, SAMPLES) * parts
    keys = jax.random.split(jax.random.key(0), 4)

    def noise(key: jax.Array, shape: tuple[int, ...], highest: int) -> jax.Array:
        return sharding.split_batch(jax.random.randint(key, (rows, *shape), 0, highest, jnp.int32))

    image_BRRC = noise(keys[0], spec.batch[IMAGE].shape[1:], 256).astype(jnp.uint8)
    tokens_BL = noise(keys[1], spec.batch[TOKENS].shape[1:], model.txt.config.vocab_size)
    masked = image_tokens - 1 < model.img.config.patches(image_BRRC.shape[1])
    keep_BK = jnp.tile(jnp.arange(image_tokens - 1), (rows, 1)) if masked else None

    def total(params: Any) -> tuple[jax.Array, Any]:
        variables = {"params": params}
        embeddings: Any = model.apply(variables, image_BRRC, tokens_BL, keep_BK)
        zimg_BE, ztxt_BE, _ = embeddings
        outputs = {"image embeddings": zimg_BE, "text embeddings": ztxt_BE}
        if masked:  # evaluation shows the tower all patches
            whole_BE = model.apply(variables, image_BRRC, method=model.encode_image)
            outputs["image embeddings of all patches"] = jax.lax.stop_gradient(whole_BE)
        directions = (jax.random.normal(key, zimg_BE.shape) for key in keys[2:])
        products = (jnp.vdot(z, d) for z, d in zip((zimg_BE, ztxt_BE), directions, strict=True))
        return sum(products, jnp.zeros(())), outputs

    gradients, outputs = jax.grad(total, has_aux=True)(params)
    shardings = spec.shardings.params
    return outputs, jax.lax.with_sharding_constraint(gradients, shardings)


def _norms(results: Any) -> Errors:
    """Euclidean norms of the embeddings, and of the gradients of a kind over all layers."""
    outputs, gradients = results
    squares = {name: jnp.sum(jnp.square(z)) for name, z in outputs.items()}
    for name, leaf in trees.flatten(gradients).items():
        kind = "gradient of " + re.sub(r"encoderblock(_\d+)?/", "", name)
        squares[kind] = squares.get(kind, 0.0) + jnp.sum(jnp.square(leaf.astype(jnp.float32)))
    return {name: jnp.sqrt(value) for name, value in squares.items()}


def _judge(
    attention: str, errors: dict[str, float], xla: dict[str, float], norms: dict[str, float]
) -> str:
    """Raises `ConfigError` at the first error above what is allowed; else the closest to it."""
    limits = {name: XLA_ERRORS * xla[name] + ROUNDING * norms[name] for name in norms}
    shares = {name: errors[name] / limits[name] for name in norms if limits[name] > 0}
    # A comparison with NaN is false.
    wrong = [name for name in norms if not errors[name] <= limits[name]]
    worst = wrong[0] if wrong else max(shares, key=lambda name: shares[name])
    text = (
        f"{worst}: {errors[worst]:.3g} off float32, of which xla is {xla[worst]:.3g} off, at a "
        f"norm of {norms[worst]:.3g}"
    )
    if wrong:
        raise ConfigError(
            f"model.attention={attention} differs from xla on these devices in {len(wrong)} of "
            f"{len(norms)} tensors; {text}; allowed {limits[worst]:.3g}. Use model.attention=xla"
        )
    return f"closest to the limit is the {text}"

"""Bring other forms of the same weights to the one of the model. W width, H heads, K of a head."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import logging

from clipa_jax import trees
from clipa_jax.errors import CheckpointError
from clipa_jax.weights import open_clip_folder

SINCOS_TOLERANCE = 1e-4  # of a table that another program computed in float32


def fit(leaves: Mapping[str, Any], shapes: Mapping[str, Any]) -> dict[str, Any]:
    """Bring weights to the form of the model; leaves that need no change stay as they are.

    Attention kernels and biases may be flat, as the released G/14 keeps them. Where the model
    computes sin-cos positions, a stored table of the same numbers is left out.

    Args:
      leaves: weights by name.
      shapes: the model's parameters by name.
    """
    fitted = dict(leaves)
    for name, leaf in leaves.items():
        if name in shapes and tuple(leaf.shape) == _flat(name, shapes[name].shape):
            fitted[name] = leaf.reshape(shapes[name].shape)
    table = fitted.get("img/pos_embedding")
    if table is not None and "img/pos_embedding" not in shapes and table.ndim == 3:
        distance = open_clip_folder.distance_to_sincos(np.asarray(table))
        if distance <= SINCOS_TOLERANCE:
            if distance:
                logging.info("img/pos_embedding: sin-cos up to %.1e, computed instead", distance)
            del fitted["img/pos_embedding"]
    return fitted


def check_layout(leaves: Mapping[str, Any], shapes: Mapping[str, Any], path: str) -> None:
    """Raises `CheckpointError` unless names and shapes are the model's; names the first others."""
    wrong = trees.same_layout(leaves, shapes)
    if wrong:
        raise CheckpointError(f"the weights in {path} do not fit the config: {'; '.join(wrong)}")


def _flat(name: str, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape without heads of an attention leaf that has them; None for other leaves."""
    part = re.fullmatch(r".*/MultiHeadDotProductAttention_\d+/(\w+/\w+)", name)
    if part is None or part.group(1) == "out/bias":
        return None
    if part.group(1) == "out/kernel":
        return (shape[0] * shape[1], shape[2])  # (H, K, W)
    return (*shape[:-2], shape[-2] * shape[-1])  # (W, H, K) or (H, K)

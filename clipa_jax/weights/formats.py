"""Weights files of every kind that can be read without PyTorch."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from clipa_jax import trees
from clipa_jax.errors import CheckpointError
from clipa_jax.runtime import files
from clipa_jax.weights import npz, open_clip

# A table that another program computed in float32 is this near to ours.
SINCOS_TOLERANCE = 1e-4


def is_file(path: Path) -> bool:
    """Whether `path` is a weights file: a .npz archive or an open_clip folder."""
    return path.suffix == ".npz" or open_clip.is_folder(path)


def check_exists(path: Path) -> None:
    """Raises `CheckpointError` unless the file is there."""
    if open_clip.is_folder(path):
        open_clip.weights_file(path)
    elif not path.is_file():
        raise CheckpointError(f"there is no weights file {path}")


def read(path: Path) -> tuple[ConfigDict | None, dict[str, np.ndarray]]:
    """The config that the file carries, None without, and the weights by name, float32."""
    if open_clip.is_folder(path):
        return open_clip.read(path)
    beside = config_beside(path)
    config = ConfigDict(files.read_json(beside)) if beside.is_file() else None
    return config, npz.read(path)


def config_beside(path: Path) -> Path:
    """Where `convert_from_torch` leaves the config of an archive."""
    return path.with_suffix(".config.json")


def fit(leaves: Mapping[str, Any], shapes: Mapping[str, Any]) -> dict[str, Any]:
    """Brings other forms of the same weights to the one of the model; leaves all else alone.

    Attention kernels and biases may be flat, as the released G/14 keeps them; and where the
    model computes sin-cos positions, a stored table with the same numbers is left out.

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
        distance = open_clip.distance_to_sincos(np.asarray(table))
        if distance <= SINCOS_TOLERANCE:
            if distance:
                logging.info("img/pos_embedding: sin-cos up to %.1e, computed instead", distance)
            del fitted["img/pos_embedding"]
    return fitted


def check_layout(leaves: Mapping[str, Any], shapes: Mapping[str, Any], what: str) -> None:
    """Raises `CheckpointError` unless names and shapes are the model's; names the first others."""
    wrong = trees.same_layout(leaves, shapes)
    if wrong:
        raise CheckpointError(f"the weights in {what} do not fit the config: {'; '.join(wrong)}")


def _flat(name: str, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape without heads of an attention leaf that has them; None for other leaves."""
    part = re.fullmatch(r".*/MultiHeadDotProductAttention_\d+/(\w+/\w+)", name)
    if part is None or part.group(1) == "out/bias":
        return None
    if part.group(1) == "out/kernel":
        return (shape[0] * shape[1], shape[2])  # (H, K, W)
    return (*shape[:-2], shape[-2] * shape[-1])  # (W, H, K) or (H, K)

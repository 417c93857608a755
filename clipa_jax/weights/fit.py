"""Bring other forms of the same weights to the one of the model. W width, H heads, K of a head."""

import re
from collections.abc import Mapping
from typing import Any

from clipa_jax.weights.open_clip_folder import POSEMB, is_sincos

SINCOS_TOLERANCE = 1e-4  # of a table that another program computed in float32


def fit(leaves: Mapping[str, Any], shapes: Mapping[str, Any]) -> dict[str, Any]:
    """Bring weights by name to the form of the model's parameters; what fits stays as it is.

    Attention kernels and biases may be flat, as the released G/14 keeps them. Where the model
    computes sin-cos positions, a stored table of the same numbers is left out.
    """
    fitted = dict(leaves)
    for name, leaf in leaves.items():
        if name in shapes and tuple(leaf.shape) == _flat(name, shapes[name].shape):
            fitted[name] = leaf.reshape(shapes[name].shape)
    if POSEMB in leaves and POSEMB not in shapes and is_sincos(leaves[POSEMB], SINCOS_TOLERANCE):
        del fitted[POSEMB]
    return fitted


def _flat(name: str, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape without heads of an attention leaf that has them; None for other leaves."""
    if re.fullmatch(r".*/MultiHeadDotProductAttention_\d+/out/kernel", name):
        return (shape[0] * shape[1], shape[2])  # (H, K, W)
    if re.fullmatch(r".*/MultiHeadDotProductAttention_\d+/(query|key|value)/\w+", name):
        return (*shape[:-2], shape[-2] * shape[-1])  # (W, H, K) or (H, K)
    return None

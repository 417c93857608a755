"""Weighted means of weights: WiSE-FT between two checkpoints (arXiv 2109.01903), soups of several
(arXiv 2203.05482)."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from clipa_jax import trees
from clipa_jax.errors import CheckpointError
from clipa_jax.weights.kinds import Weights


def kept(weights: Weights) -> Weights:
    """The same weights, which are read once and then stay in memory."""
    config = functools.cache(functools.partial(_config, weights))
    return dataclasses.replace(weights, read=functools.cache(weights.read), _read_config=config)


def mixed(opened: Sequence[Weights], shares: Sequence[float]) -> Weights:
    """The mean of weights with one share each, under the config of the last; nothing is read yet.

    Its `read` raises `CheckpointError` if their parameters differ in names or shapes. Fixed image
    positions, which only some formats store, are those of the last.
    """
    names = " + ".join(f"{s:g} x {w.path}" for s, w in zip(shares, opened, strict=True))
    read = functools.partial(_mean, opened, shares)
    return Weights("npz", names, opened[-1].source, read, functools.partial(_config, opened[-1]))


def _config(weights: Weights) -> ConfigDict | None:
    return weights.config


def _mean(opened: Sequence[Weights], shares: Sequence[float]) -> dict[str, np.ndarray]:
    total: dict[str, np.ndarray] = {}
    for weights, share in zip(opened, shares, strict=True):
        leaves = weights.read()
        wrong = trees.same_layout(leaves, total) if total else []
        if wrong:
            raise CheckpointError(
                f"{weights.path} and {opened[0].path} are not of one model: {'; '.join(wrong)}"
            )
        for name, leaf in leaves.items():
            total[name] = total.get(name, np.float32(0)) + np.float32(share) * np.asarray(leaf)
    return total

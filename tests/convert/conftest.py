"""Folders that our converter made for open_clip."""

from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.helpers import random_clip, torchvision_ops

torchvision_ops.declare()  # before anything imports open_clip

from clipa_jax.convert import convert  # noqa: E402
from clipa_jax.weights import npz  # noqa: E402


@pytest.fixture
def export(tmp_path):
    """A function that turns (config, weights) into an open_clip folder, and gives its path."""
    return lambda config, leaves: _export(tmp_path, config, leaves)


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """One (config, weights, open_clip folder) for all tests that only read it."""
    config = random_clip.config(input__res=32)
    leaves = random_clip.weights(config)
    return config, leaves, _export(tmp_path_factory.mktemp("exported"), config, leaves)


def _export(path: Path, config: ConfigDict, leaves: dict[str, np.ndarray]) -> Path:
    npz.write(path / "weights.npz", leaves)
    convert.to_torch(str(path / "weights.npz"), path / "torch", config)
    return path / "torch"

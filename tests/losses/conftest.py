"""Embeddings of pairs that are alike but not the same."""

import numpy as np
import pytest


def embeddings(batch=24, width=16, seed=0, noise=1.0):
    """Unit-length image and text embeddings, float64."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(batch, width))
    pairs = [shared + noise * rng.normal(size=(batch, width)) for _ in range(2)]
    return [z / np.linalg.norm(z, axis=1, keepdims=True) for z in pairs]


@pytest.fixture(name="embeddings", scope="session")
def _embeddings():
    return embeddings

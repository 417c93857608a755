"""Weighted means of weights."""

import dataclasses

import numpy as np
import pytest

from clipa_jax.errors import CheckpointError
from clipa_jax.weights import mix, npz, open_weights
from tests.helpers import small_stage


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Two checkpoints of one model."""
    root = tmp_path_factory.mktemp("W")
    for seed, name in enumerate(("start", "tuned")):
        small_stage.stage(root, small_stage.config(name), seed=seed)
    return [open_weights(str(root / name)) for name in ("start", "tuned")]


def test_the_mean_has_the_shares_of_both_and_the_config_of_the_last(opened):
    quarter = mix.mixed(opened, (0.75, 0.25))
    a, b = (weights.read() for weights in opened)
    for name, leaf in quarter.read().items():
        np.testing.assert_allclose(leaf, 0.75 * a[name] + 0.25 * b[name], atol=1e-6)
    assert quarter.config.name == "tuned"
    for alpha, end in ((0, a), (1, b)):
        whole = mix.mixed(opened, (1 - alpha, alpha)).read()
        for name, leaf in end.items():
            np.testing.assert_array_equal(whole[name], leaf)


def test_kept_weights_are_read_once_for_all_shares(opened):
    reads = []

    def counted(weights):
        read = lambda: (reads.append(weights.path), weights.read())[1]  # noqa: E731
        return mix.kept(dataclasses.replace(weights, read=read))

    kept = [counted(weights) for weights in opened]
    for alpha in (0.0, 0.5, 1.0):
        mixed, expected = (mix.mixed(w, (1 - alpha, alpha)).read() for w in (kept, opened))
        for name, leaf in expected.items():
            np.testing.assert_array_equal(mixed[name], leaf)
    assert reads == [weights.path for weights in opened]


def test_weights_of_other_models_are_refused(opened, tmp_path):
    npz.write(tmp_path / "other.npz", {"t": np.zeros(1, np.float32)})
    other = open_weights(str(tmp_path / "other.npz"))
    with pytest.raises(CheckpointError, match=r"other\.npz and .*start are not of one model"):
        mix.mixed([opened[0], other], (0.5, 0.5)).read()

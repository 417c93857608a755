"""What the conversion tests share: small configs and random weights."""

from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from clipa_jax import models, trees
from clipa_jax.config import schema
from clipa_jax.config.settings import Settings
from clipa_jax.models.sizes import parse
from clipa_jax.training import state
from tests.helpers import torchvision_ops

torchvision_ops.declare()  # before anything imports open_clip

from clipa_jax.convert import convert  # noqa: E402
from clipa_jax.weights import npz  # noqa: E402

EMOJI_VOCAB = "data/emoji/vocab.txt"


@pytest.fixture(scope="session")
def make_config():
    """A function that makes a small stage's config; keyword arguments override its keys."""

    def make(size: str = "S/16", **overrides) -> ConfigDict:
        c = schema.default()
        c.model.size = size
        c.model.image.depth = c.model.text.depth = 1
        c.model.text.vocab_size = 2_500
        c.input.res = 3 * parse(size)[1]
        c.input.text_len = 12
        c.input.vocab = EMOJI_VOCAB
        c.input.preprocess_eval = "decode|resize({res})"
        c.update_from_flattened_dict({key.replace("__", "."): x for key, x in overrides.items()})
        return c

    return make


@pytest.fixture(scope="session")
def make_weights():
    """A function that makes random weights for a config, by name; no leaf is trivial."""

    def make(config: ConfigDict, seed: int = 0) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        leaves = {}
        for name, shape in shapes_of(config).items():
            leaf = rng.standard_normal(shape.shape, np.float32)
            if name.endswith("kernel"):
                fan_out = shape.shape[-1] if "/out/" in name or len(shape.shape) != 3 else None
                outputs = fan_out or shape.shape[-1] * shape.shape[-2]
                leaf *= (outputs / leaf.size) ** 0.5
            else:
                leaf = 0.2 * leaf + name.endswith("scale")
            leaves[name] = leaf.astype(np.float32)
        return leaves

    return make


def shapes_of(config: ConfigDict) -> dict[str, jax.ShapeDtypeStruct]:
    """The parameters of a config's model by name."""
    model = models.build(Settings(config.model))
    return trees.flatten(state.param_shapes(model, config.input.res, config.input.text_len))


@pytest.fixture
def export(tmp_path):
    """A function that turns (config, weights) into an open_clip folder, and gives its path."""
    return lambda config, leaves: _export(tmp_path, config, leaves)


@pytest.fixture(scope="session")
def exported(tmp_path_factory, make_config, make_weights):
    """One (config, weights, open_clip folder) for all tests that only read it."""
    config = make_config("mini/8", input__res=32)
    leaves = make_weights(config)
    return config, leaves, _export(tmp_path_factory.mktemp("exported"), config, leaves)


def _export(path: Path, config: ConfigDict, leaves: dict[str, np.ndarray]) -> Path:
    npz.write(path / "weights.npz", leaves)
    convert.to_torch(str(path / "weights.npz"), path / "torch", config)
    return path / "torch"

"""Small models of one layer a tower with random weights, in which no parameter is trivial."""

from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from clipa_jax import models, trees
from clipa_jax.config import schema
from clipa_jax.config.settings import Settings
from clipa_jax.models.sizes import parse
from clipa_jax.training import state
from clipa_jax.weights import open_clip_folder

VOCAB = "data/emoji/vocab.txt"


def config(size: str = "mini/8", **overrides) -> ConfigDict:
    """A stage's config; `model__dtype="bfloat16"` overrides `model.dtype`."""
    c = schema.default()
    c.model.size = size
    c.model.image.depth = c.model.text.depth = 1
    c.model.text.vocab_size = 2_500
    c.input.res = 3 * parse(size)[1]
    c.input.text_len = 12
    c.input.vocab = VOCAB
    c.input.preprocess_eval = "decode|resize({res})"
    c.update_from_flattened_dict({key.replace("__", "."): x for key, x in overrides.items()})
    return c


def shapes(config: ConfigDict) -> dict[str, jax.ShapeDtypeStruct]:
    """The parameters of a config's model by name."""
    model = models.build(Settings(config.model))
    return trees.flatten(state.param_shapes(model, config.input.res, config.input.text_len))


def weights(config: ConfigDict, seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights by name."""
    rng = np.random.default_rng(seed)
    leaves = {}
    for name, shape in shapes(config).items():
        leaf = rng.standard_normal(shape.shape, np.float32)
        if name.endswith("kernel"):
            fan_out = shape.shape[-1] if "/out/" in name or len(shape.shape) != 3 else None
            outputs = fan_out or shape.shape[-1] * shape.shape[-2]
            leaf *= (outputs / leaf.size) ** 0.5
        else:
            leaf = 0.2 * leaf + name.endswith("scale")
        leaves[name] = leaf.astype(np.float32)
    return leaves


def write_open_clip(folder: Path, config: ConfigDict, leaves: dict[str, np.ndarray]) -> Path:
    """Makes a folder of open_clip without PyTorch; it has no tokenizer."""
    folder.mkdir()
    model = models.build(Settings(config.model))
    open_clip_folder.write(folder, model, leaves, config.input, "unknown")
    return folder

"""A trained model from a workdir or a weights file, ready to encode.

model = clipa_jax.load("runs/demo")
model.encode_text(["a dog"]) @ model.encode_image(images).T * model.logit_scale
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from clipa_jax import models, sharding, trees
from clipa_jax.config.settings import Settings
from clipa_jax.data import pipeline
from clipa_jax.errors import DataError
from clipa_jax.evaluators import embed
from clipa_jax.models import CLIP, clip
from clipa_jax.preprocess import registry
from clipa_jax.preprocess.text import Tokenize, make_tokenize
from clipa_jax.training import attention, steps
from clipa_jax.weights import open_weights


@dataclass(frozen=True)
class Model:
    """Both towers with their weights and their preprocessing. B inputs, E embedding."""

    config: ConfigDict  # of the stage that trained the weights
    params: Any
    encoders: steps.Encoders  # the compiled towers
    tokenize: Tokenize  # texts -> int32 (B, L), as in training
    batch_size: int = 64  # the most inputs of one call of a tower

    @property
    def res(self) -> int:
        """Side of the image tower's input, in pixels."""
        return self.config.input.res

    @property
    def logit_scale(self) -> float:
        """The inverse temperature; similarities times it are logits."""
        maximum = self.config.model.temperature_max
        return float(clip.inverse_temperature(self.params["t"], maximum))

    @property
    def logit_bias(self) -> float | None:
        """The bias that the sigmoid loss adds to logits; None for other losses."""
        return float(np.ravel(self.params["b"])[0]) if "b" in self.params else None

    def encode_image(self, images: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
        """Unit-length embeddings, float32 (B, E).

        Takes uint8 images (B, H, W, 3), or a list of any sizes, which are preprocessed as in
        evaluation; or preprocessed floats (B, R, R, 3). Raises `DataError` for another dtype or
        shape.
        """
        return self._encode(self.encoders.image, self._prepare(images))

    def encode_text(self, texts: str | Sequence[str] | np.ndarray) -> np.ndarray:
        """Unit-length embeddings, float32 (B, E), of strings or of token ids int32 (B, L)."""
        if isinstance(texts, str):
            texts = [texts]
        ids = isinstance(texts, np.ndarray | jax.Array) and texts.dtype.kind in "iu"
        tokens_BL = np.asarray(texts, np.int32) if ids else self.tokenize(list(texts))
        if tokens_BL.ndim != 2 or tokens_BL.shape[1] != self.config.input.text_len:
            raise DataError(
                f"token ids of shape {tokens_BL.shape}; expected (B, {self.config.input.text_len})"
            )
        return self._encode(self.encoders.text, tokens_BL)

    def _prepare(self, images: Any) -> np.ndarray:
        arrays = [np.asarray(image) for image in images]
        if not arrays or any(image.ndim != 3 or image.shape[2] != 3 for image in arrays):
            first = arrays[0].shape if arrays else "nothing"
            raise DataError(f"images must be (B, height, width, 3); the first is {first}")
        if all(image.dtype == np.uint8 for image in arrays):
            spec = pipeline.fill(self.config.input.preprocess_eval, self.config.input)
            preprocess = registry.build(spec.removeprefix("decode|"))
            return np.stack([preprocess({"image": image})["image"].numpy() for image in arrays])
        if any(image.dtype.kind != "f" or image.shape[:2] != (self.res,) * 2 for image in arrays):
            raise DataError(
                f"images of {arrays[0].dtype} {arrays[0].shape}; expected uint8 of any size, or "
                f"preprocessed floats of {self.res}x{self.res} pixels"
            )
        return np.stack(arrays).astype(np.float32)

    def _encode(self, tower: Callable[[Any, jax.Array], jax.Array], rows: np.ndarray) -> np.ndarray:
        # Batches of powers of two keep the number of compiled shapes small.
        size = min(self.batch_size, 2 ** math.ceil(math.log2(max(len(rows), 1))))
        parts = embed.rows(tower, self.params, rows, self.encoders.batch_sharding, size)
        return np.concatenate([z_BE for _, z_BE in parts])


def load(path: str, config: ConfigDict | None = None) -> Model:
    """The model in a workdir, a weights file, or whatever else `open_weights` takes.

    A file that carries no config needs a stage's. Raises `CheckpointError` if there are no weights,
    or they do not fit the config.
    """
    return on_mesh(*open_weights(path).build(config), sharding.make_mesh())


def on_mesh(
    config: ConfigDict,
    model: CLIP,
    leaves: Mapping[str, Any],
    mesh: Mesh,
    layout: Settings | None = None,
) -> Model:
    """The weights of a model, from `Weights.build`, on devices of any number of processes.

    `layout` is the `sharding` section; None for a copy of the weights on every device.
    """
    if mesh.devices.flat[0].platform != "tpu" and attention.is_packed(model):
        model = models.with_options(model, attention="auto")
    params = trees.unflatten(leaves)
    copies = jax.tree.map(lambda _: sharding.replicated(mesh), params)
    shardings = sharding.param_shardings(params, mesh, layout) if layout else copies

    def put(leaf: np.ndarray, place: jax.sharding.Sharding) -> jax.Array:
        return jax.make_array_from_callback(leaf.shape, place, lambda index: leaf[index])

    params = jax.tree.map(put, params, shardings)
    return Model(config, params, steps.make_encoders(model, mesh), make_tokenize(config.input))

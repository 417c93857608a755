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
    """Both towers with their weights and their preprocessing. B inputs, E embedding.

    Attributes:
      config: of the stage that made the weights.
      params: the weights.
      encoders: the compiled towers.
      tokenize: texts -> int32 (B, L), as in training.
      batch_size: inputs that go through a tower at a time.
    """

    config: ConfigDict
    params: Any
    encoders: steps.Encoders
    tokenize: Tokenize
    batch_size: int = 64

    @property
    def res(self) -> int:
        """Pixels a side of the pictures that the image tower takes."""
        return self.config.input.res

    @property
    def logit_scale(self) -> float:
        """The inverse temperature: similarities times it are logits."""
        maximum = self.config.model.temperature_max
        return float(clip.inverse_temperature(self.params["t"], maximum))

    @property
    def logit_bias(self) -> float | None:
        """What is added to logits, where the sigmoid loss has learned it; else None."""
        return float(np.ravel(self.params["b"])[0]) if "b" in self.params else None

    def encode_image(self, images: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
        """Unit-length embeddings, float32 (B, E).

        Args:
          images: uint8 (B, H, W, 3), or a list of (H, W, 3) of any sizes, which are
            preprocessed as in evaluation; or float (B, R, R, 3), preprocessed already.

        Raises:
          DataError: another form.
        """
        return self._encode(self.encoders.image, self._prepared(images))

    def encode_text(self, texts: str | Sequence[str] | np.ndarray) -> np.ndarray:
        """Unit-length embeddings, float32 (B, E).

        Args:
          texts: strings, or token ids int32 (B, L).
        """
        if isinstance(texts, str):
            texts = [texts]
        ids = isinstance(texts, np.ndarray | jax.Array) and texts.dtype.kind in "iu"
        tokens_BL = np.asarray(texts, np.int32) if ids else self.tokenize(list(texts))
        if tokens_BL.ndim != 2 or tokens_BL.shape[1] != self.config.input.text_len:
            raise DataError(
                f"token ids of shape {tokens_BL.shape}; expected (B, {self.config.input.text_len})"
            )
        return self._encode(self.encoders.text, tokens_BL)

    def _prepared(self, images: Any) -> np.ndarray:
        shaped = [np.asarray(image) for image in images]
        if not shaped or any(image.ndim != 3 or image.shape[2] != 3 for image in shaped):
            came = shaped[0].shape if shaped else "nothing"
            raise DataError(f"images must be (B, height, width, 3); the first is {came}")
        if all(image.dtype == np.uint8 for image in shaped):
            return np.stack([self._preprocess(image) for image in shaped])
        if any(image.dtype.kind != "f" or image.shape[:2] != (self.res,) * 2 for image in shaped):
            raise DataError(
                f"images of {shaped[0].dtype} {shaped[0].shape}; expected uint8 of any size, or "
                f"preprocessed floats of {self.res}x{self.res} pixels"
            )
        return np.stack(shaped).astype(np.float32)

    def _preprocess(self, image: np.ndarray) -> np.ndarray:
        spec = pipeline.fill(self.config.input.preprocess_eval, self.config.input)
        ops = registry.build(spec.removeprefix("decode|"))
        return ops({"image": image})["image"].numpy()

    def _encode(self, tower: Callable[[Any, jax.Array], jax.Array], rows: np.ndarray) -> np.ndarray:
        # Few shapes reach the compiler: powers of two up to a full batch.
        size = min(self.batch_size, 2 ** math.ceil(math.log2(max(len(rows), 1))))
        parts = embed.rows(tower, self.params, rows, self.encoders.batch_sharding, size)
        return np.concatenate([z for _, z in parts])


def load(path: str, config: ConfigDict | None = None) -> Model:
    """The model in a workdir or weights file.

    Args:
      path: what `open_weights` takes.
      config: a stage's config; needed for files that do not carry one.

    Raises:
      CheckpointError: there are no weights, or they do not fit the config.
    """
    return on_mesh(*open_weights(path).build(config), sharding.make_mesh())


def on_mesh(
    config: ConfigDict,
    model: CLIP,
    leaves: Mapping[str, Any],
    mesh: Mesh,
    layout: Settings | None = None,
) -> Model:
    """A model with its weights on devices.

    Args:
      config, model, leaves: from `Weights.build`.
      mesh: the devices, of any number of processes, all of which call this.
      layout: the `sharding` section; None for a copy of the weights on every device.
    """
    if mesh.devices.flat[0].platform != "tpu" and attention.is_packed(model):
        model = models.with_options(model, attention="auto")
    params = trees.unflatten(leaves)
    whole = jax.tree.map(lambda leaf: sharding.replicated(mesh), params)
    layouts = sharding.param_shardings(params, mesh, layout) if layout else whole
    params = jax.tree.map(
        lambda leaf, one: jax.make_array_from_callback(
            leaf.shape, one, lambda index: np.asarray(leaf)[index]
        ),
        params,
        layouts,
    )
    return Model(config, params, steps.make_encoders(model, mesh), make_tokenize(config.input))

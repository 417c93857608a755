"""A trained model by name, or from a workdir or a weights file, ready to encode.

model = clipa_jax.load("clipa-l14-datacomp1b")
model.encode_text(["a dog"]) @ model.encode_image(["dog.jpg"]).T * model.logit_scale
"""

import math
from collections.abc import Callable, Iterable, Mapping
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
from clipa_jax.preprocess import pictures
from clipa_jax.preprocess.text import Tokenize, make_tokenize
from clipa_jax.runtime import quiet
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

    def encode_image(self, images: Any) -> np.ndarray:
        """Unit-length embeddings, float32 (B, E).

        Takes PIL images, paths, encoded bytes and uint8 arrays (H, W, 3) of any sizes, or a single
        one of the first three, which are preprocessed as in evaluation; or preprocessed floats
        (B, R, R, 3). Raises `DataError`, which names the picture, for anything else.
        """
        images = [images] if isinstance(images, pictures.SINGLE) else images
        inputs = self.config.input
        spec = pipeline.fill(inputs.preprocess_eval, inputs)
        batches = pictures.batches(images, spec, self.res, self.batch_size)
        return self._encode(self.encoders.image, batches)

    def encode_text(self, texts: Any) -> np.ndarray:
        """Unit-length embeddings, float32 (B, E), of strings or of token ids (B, L).

        Raises `DataError` for rows of another length and for ids that the model does not have.
        """
        return self._encode(self.encoders.text, [self._tokens(texts)])

    def _tokens(self, texts: Any) -> np.ndarray:
        if not isinstance(texts, Iterable):
            raise DataError(f"got {type(texts).__name__}; expected strings, or token ids")
        texts = [texts] if isinstance(texts, str) else list(texts)
        length, rows = self.config.input.text_len, len(self.params["txt"]["Embed_0"]["embedding"])
        if all(isinstance(text, str) for text in texts):
            return self.tokenize(texts) if texts else np.zeros((0, length), np.int32)
        try:
            tokens_BL = np.asarray(texts)
        except ValueError:  # rows of different lengths
            tokens_BL = np.asarray(texts, object)
        if tokens_BL.dtype.kind not in "iu" or tokens_BL.shape[1:] != (length,):
            raise DataError(
                f"got {tokens_BL.dtype} {tokens_BL.shape}; expected strings, or token ids (B, "
                f"{length})"
            )
        if tokens_BL.min() < 0 or tokens_BL.max() >= rows:
            raise DataError(
                f"token ids from {tokens_BL.min()} to {tokens_BL.max()}; the model has 0 to "
                f"{rows - 1}: use its own tokenizer"
            )
        return tokens_BL.astype(np.int32)

    def _encode(
        self, tower: Callable[[Any, jax.Array], jax.Array], batches: Iterable[np.ndarray]
    ) -> np.ndarray:
        parts = [np.zeros((0, self.params["img"]["head"]["kernel"].shape[-1]), np.float32)]
        for rows in batches:
            # Batches of powers of two keep the number of compiled shapes small.
            size = min(self.batch_size, 2 ** math.ceil(math.log2(max(len(rows), 1))))
            done = embed.rows(tower, self.params, rows, self.encoders.batch_sharding, size)
            parts += [z_BE for _, z_BE in done]
        return np.concatenate(parts)


def load(
    path: str, config: ConfigDict | None = None, *, numerics: str = "", res: int | None = None
) -> Model:
    """The model of a name, in a workdir, a weights file, or another form that `open_weights` takes.

    A file that carries no config needs a stage's. `numerics` are "clipa" or "open_clip" (see
    `open_weights`). `res` takes pictures of another side than in training: learned positions are
    resized to it. Raises `CheckpointError` if there are no weights, or they do not fit the config,
    and `DataError` if they cannot be downloaded.
    """
    quiet.libtpu()
    return on_mesh(*open_weights(path, numerics).build(config, res), sharding.make_mesh())


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

"""A model as files that run without this package: StableHLO, or ONNX.

`image.*` takes pixels, uint8 RGB (B, R, R, 3), `text.*` token ids, int32 (B, L); both give
unit-length embeddings, float32 (B, E). Sizes, temperature and versions are in export.json, the
tokenizer's files beside it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from clipa_jax import models, trees
from clipa_jax.convert import parity, tokenizer
from clipa_jax.convert.staging import staging
from clipa_jax.data import pipeline
from clipa_jax.models import CLIP, clip
from clipa_jax.preprocess.text import Tokenizer, load_tokenizer
from clipa_jax.preprocess.vocab import keep_copy
from clipa_jax.runtime import files
from clipa_jax.weights import open_weights, state_file
from clipa_jax.weights.rules import Arrays

PLATFORMS = ("cpu", "cuda", "tpu")
WEIGHTS = "weights.safetensors"
REPORT = "export.json"
# Writes both towers into a folder and gives what runs them from there: inputs -> embeddings.
Run = Callable[[np.ndarray], np.ndarray]
Write = Callable[[Path, CLIP, Arrays, ConfigDict], tuple[Run, Run]]


def export(
    checkpoint: str, out: Path, write: Write, config: ConfigDict | None = None
) -> dict[str, Any]:
    """Writes a model with `stablehlo` or `onnx.write` into the folder `out`; returns the report.

    Raises `UserError` if the weights cannot be read, the format has no such architecture, or the
    embeddings differ from the model's.
    """
    config, model, leaves = open_weights(checkpoint).build(config)
    model = models.with_options(model, dtype=jnp.float32, attention="xla")
    text = load_tokenizer(config.input.vocab) if config.input.vocab else None
    scale = float(clip.inverse_temperature(jnp.asarray(leaves["t"]), model.temperature_max))
    with staging(out) as temporary:
        folder = temporary / out.name
        folder.mkdir()
        image, tokens = write(folder, model, leaves, config)
        report = parity.measure(
            model,
            leaves,
            config.input,
            text,
            lambda images_BRRC, tokens_BL: (image(images_BRRC), tokens(tokens_BL), scale),
            pixels(config.input.res),
        )
        parity.check(report)
        content = {
            "res": config.input.res,
            "text_len": config.input.text_len,
            "preprocess": pipeline.fill(config.input.preprocess_eval, config.input),
            "logit_scale": scale,
            "logit_bias": float(leaves["b"].item()) if "b" in leaves else None,
            "tokenizer": _write_tokenizer(folder, text),
            "parity": report,
        }
        files.write_json(folder / REPORT, content, indent=2)
    return content


def stablehlo(folder: Path, model: CLIP, leaves: Arrays, config: ConfigDict) -> tuple[Run, Run]:
    """Writes image.stablehlo, text.stablehlo and weights.safetensors.

    The functions take (weights by name, inputs), any batch size, on CPU, CUDA and TPU.
    """
    weights = {name: np.ascontiguousarray(leaf, np.float32) for name, leaf in leaves.items()}
    state_file.write(folder / WEIGHTS, weights)

    def tower(method: Any) -> Callable[[dict[str, jax.Array], jax.Array], Any]:
        return lambda weights, x: model.apply(
            {"params": trees.unflatten(weights)}, x, method=method
        )

    (batch,) = jax.export.symbolic_shape("batch")
    res, text_len = config.input.res, config.input.text_len
    inputs = {
        "image": (model.encode_image, jax.ShapeDtypeStruct((batch, res, res, 3), jnp.uint8)),
        "text": (model.encode_text, jax.ShapeDtypeStruct((batch, text_len), jnp.int32)),
    }
    shapes = {key: jax.ShapeDtypeStruct(x.shape, x.dtype) for key, x in weights.items()}
    runs = {}
    for name, (method, spec) in inputs.items():
        with jax.default_matmul_precision("highest"):
            exported = jax.export.export(jax.jit(tower(method)), platforms=PLATFORMS)(shapes, spec)
        file = folder / f"{name}.stablehlo"
        file.write_bytes(exported.serialize())
        read = jax.export.deserialize(bytearray(file.read_bytes()))
        runs[name] = lambda x, read=read: np.asarray(read.call(weights, x))
    return runs["image"], runs["text"]


def pixels(res: int) -> np.ndarray:
    """Random blocks of color with noise, uint8 (B, R, R, 3)."""
    return np.clip(128 + 60 * parity.random_images(res), 0, 255).astype(np.uint8)


def _write_tokenizer(folder: Path, text: Tokenizer | None) -> dict[str, Any] | None:
    """Writes the files of a tokenizer; returns how a row of ids is made."""
    if text is None:
        return None
    vocabulary = text.vocabulary
    library = "tokenizers" if tokenizer.write(vocabulary, folder) else "sentencepiece"
    if library == "sentencepiece":
        keep_copy(vocabulary.name, folder)
    return {"library": library, "first_id": vocabulary.cls_id, "pad_id": vocabulary.pad_id}

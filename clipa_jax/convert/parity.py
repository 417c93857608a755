"""Parity of our model and its converted form, on the same inputs.

B inputs, R pixels a side, L text tokens, E embedding.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from clipa_jax import models, trees
from clipa_jax.errors import CheckpointError
from clipa_jax.models import CLIP
from clipa_jax.preprocess.text import Tokenizer
from clipa_jax.weights.rules import Arrays

MAX_ABS, MIN_COSINE = 1e-4, 0.99999
NUM_IMAGES, NUM_RANDOM_TEXTS = 4, 4
CAPTIONS = (
    "a photo of a dog",
    "",
    "two children play football on a muddy field, seen from behind",
    "Una caf\u00e9 con leche, s'il vous pla\u00eet! \u6771\u4eac 2024",
    "an extremely long caption that goes on and on about a small red house between two large "
    "green trees under a blue sky with white clouds, until it fills every place there is, and more",
)

Report = dict[str, Any]
Embeddings = tuple[np.ndarray, np.ndarray, float]  # images (B, E), texts (B, E), logit scale


def measure(
    model: CLIP,
    leaves: Arrays,
    inputs: Any,
    tokenizer: Tokenizer | None,
    theirs: Callable[[np.ndarray, np.ndarray], Embeddings],
    images_BRRC: np.ndarray,
) -> Report:
    """Compares the embeddings of images, random token ids and `CAPTIONS`, in float32.

    `inputs` is the `input` section of the model's config; no captions without a tokenizer; `theirs`
    is the other side: (images, int32 tokens (B, L)) -> embeddings.
    """
    rng, shape_BL = np.random.default_rng(0), (NUM_RANDOM_TEXTS, inputs.text_len)
    tokens_BL = rng.integers(0, model.txt.config.vocab_size, shape_BL, dtype=np.int32)
    if tokenizer:
        captions_BL = tokenizer.encode(CAPTIONS, inputs.text_len)
        tokens_BL = np.concatenate([captions_BL, tokens_BL])
    ours = _embed_ours(model, leaves, images_BRRC, tokens_BL)
    others = theirs(images_BRRC, tokens_BL)
    return {
        "image": _difference(ours[0], others[0]),
        "text": _difference(ours[1], others[1]),
        "logit_scale": {"ours": ours[2], "theirs": others[2]},
        "compared": {
            "images": f"{len(images_BRRC)} random, {inputs.res} pixels",
            "texts": f"{len(tokens_BL)} of {inputs.text_len} tokens",
            "parameters": int(sum(leaf.size for leaf in leaves.values())),
        },
        "tolerance": {"max_abs": MAX_ABS, "min_cosine": MIN_COSINE},
        "versions": {"jax": jax.__version__},
    }


def check(report: Report) -> None:
    """Log the differences; raises `CheckpointError` if they exceed the tolerances."""
    for tower in ("image", "text"):
        difference, cosine = report[tower]["max_abs"], report[tower]["min_cosine"]
        logging.info(
            "%s embeddings: largest difference %.2e, least cosine %.7f", tower, difference, cosine
        )
        if not (difference <= MAX_ABS and cosine >= MIN_COSINE):  # true of NaN too
            raise CheckpointError(
                f"{tower} embeddings of the two sides differ by {difference:.1e} (at most "
                f"{MAX_ABS:.0e} is allowed), cosine {cosine:.6f} (at least {MIN_COSINE}); nothing "
                "was converted"
            )
    scales = report["logit_scale"]
    if not np.isclose(scales["ours"], scales["theirs"], rtol=1e-6):
        raise CheckpointError(f"the temperatures differ: {scales}; nothing was converted")


def random_images(res: int) -> np.ndarray:
    """Random blocks of color with noise, float32 (B, R, R, 3), as if normalized."""
    rng = np.random.default_rng(0)
    coarse = rng.standard_normal((NUM_IMAGES, 4, 4, 3), np.float32)
    blocks = coarse.repeat(-(-res // 4), axis=1).repeat(-(-res // 4), axis=2)[:, :res, :res]
    return blocks + 0.5 * rng.standard_normal((NUM_IMAGES, res, res, 3), np.float32)


def _embed_ours(
    model: CLIP, leaves: Arrays, images_BRRC: np.ndarray, tokens_BL: np.ndarray
) -> Embeddings:
    model = models.with_options(model, dtype=jnp.float32, attention="xla")
    model = model.clone(temperature_max=None)
    with jax.default_matmul_precision("highest"):
        variables = {"params": trees.unflatten(leaves)}
        outputs: Any = jax.jit(model.apply)(variables, images_BRRC, tokens_BL)
    zimg_BE, ztxt_BE, scale = (np.asarray(x) for x in outputs)
    return zimg_BE, ztxt_BE, float(scale)


def _difference(ours_BE: np.ndarray, theirs_BE: np.ndarray) -> dict[str, float]:
    cosine_B = (ours_BE.astype(np.float64) * theirs_BE).sum(axis=1)
    largest = np.abs(ours_BE - theirs_BE).max()
    return {"max_abs": float(largest), "min_cosine": float(cosine_B.min())}

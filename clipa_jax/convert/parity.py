"""Parity of both sides: our model and open_clip's own, on the same inputs.

B inputs, R pixels a side, L text tokens, E embedding.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import open_clip
import torch
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
    model: CLIP, leaves: Arrays, path: Path, inputs: Any, tokenizer: Tokenizer | None
) -> Report:
    """Compare the embeddings of random images, random token ids and `CAPTIONS`, in float32.

    The open_clip folder at `path` is loaded as its users load it. `inputs` is the section of our
    model's config, whose dtype is ignored; without a tokenizer, captions are left out.
    """
    rng, shape_BL = np.random.default_rng(0), (NUM_RANDOM_TEXTS, inputs.text_len)
    tokens_BL = rng.integers(0, model.txt.config.vocab_size, shape_BL, dtype=np.int32)
    if tokenizer:
        captions_BL = tokenizer.encode(CAPTIONS, inputs.text_len)
        tokens_BL = np.concatenate([captions_BL, tokens_BL])
    images_BRRC = random_images(inputs.res)
    ours = _embed_ours(model, leaves, images_BRRC, tokens_BL)
    theirs = _embed_theirs(path, images_BRRC, tokens_BL)
    return {
        "image": _difference(ours[0], theirs[0]),
        "text": _difference(ours[1], theirs[1]),
        "logit_scale": {"ours": ours[2], "theirs": theirs[2]},
        "compared": {
            "images": f"{NUM_IMAGES} random, {inputs.res} pixels",
            "texts": f"{len(tokens_BL)} of {inputs.text_len} tokens",
            "parameters": int(sum(leaf.size for leaf in leaves.values())),
        },
        "tolerance": {"max_abs": MAX_ABS, "min_cosine": MIN_COSINE},
        "versions": {
            "jax": jax.__version__,
            "torch": torch.__version__,
            "open_clip_torch": open_clip.__version__,
        },
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


def _embed_theirs(path: Path, images_BRRC: np.ndarray, tokens_BL: np.ndarray) -> Embeddings:
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{path}")
    model.eval()
    with torch.inference_mode():
        images = torch.from_numpy(images_BRRC.transpose(0, 3, 1, 2).copy())
        zimg = model.encode_image(images, normalize=True)
        ztxt = model.encode_text(torch.from_numpy(tokens_BL).long(), normalize=True)
        scale = model.logit_scale.exp()
    return zimg.numpy(), ztxt.numpy(), float(scale)


def _difference(ours_BE: np.ndarray, theirs_BE: np.ndarray) -> dict[str, float]:
    cosine_B = (ours_BE.astype(np.float64) * theirs_BE).sum(axis=1)
    largest = np.abs(ours_BE - theirs_BE).max()
    return {"max_abs": float(largest), "min_cosine": float(cosine_B.min())}

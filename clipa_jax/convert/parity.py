"""Do both sides compute the same? Our model beside open_clip's own, on the same inputs.

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
from clipa_jax.weights import rules

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


def measure(
    model: CLIP,
    leaves: rules.Arrays,
    path: Path,
    *,
    res: int,
    tokens_BL: np.ndarray,
    seed: int = 0,
) -> Report:
    """Embeds random images and given texts on both sides, in float32.

    Args:
      model: ours; computes in float32 whatever its dtype.
      leaves: its weights by name.
      path: the open_clip folder, loaded as its users load it.
      res: R.
      tokens_BL: token ids.
      seed: of the images.

    Returns:
      By "image" and "text": the largest difference and the least cosine; `logit_scale` of
      both; and what was compared.
    """
    images_BRRC = random_images(res, seed)
    ours = _ours(model, leaves, images_BRRC, tokens_BL)
    theirs = _theirs(path, images_BRRC, tokens_BL)
    return {
        "image": _difference(ours[0], theirs[0]),
        "text": _difference(ours[1], theirs[1]),
        "logit_scale": {"ours": ours[2], "theirs": theirs[2]},
        "compared": {
            "images": f"{NUM_IMAGES} random, {res} pixels",
            "texts": f"{len(tokens_BL)} of {tokens_BL.shape[1]} tokens",
            "parameters": int(sum(leaf.size for leaf in leaves.values())),
        },
        "tolerance": {"max_abs": MAX_ABS, "min_cosine": MIN_COSINE},
        "versions": {
            "jax": jax.__version__,
            "torch": torch.__version__,
            "open_clip_torch": open_clip.__version__,
        },
    }


def log(report: Report) -> None:
    """Writes the numbers of a report to the log."""
    for tower in ("image", "text"):
        numbers = report[tower]
        logging.info(
            "%s embeddings: largest difference %.2e, least cosine %.7f",
            *(tower, numbers["max_abs"], numbers["min_cosine"]),
        )


def check(report: Report) -> None:
    """Raises `CheckpointError` if a report says that the two sides differ."""
    for tower in ("image", "text"):
        numbers = report[tower]
        # Written so that NaN fails too.
        if not (numbers["max_abs"] <= MAX_ABS and numbers["min_cosine"] >= MIN_COSINE):
            raise CheckpointError(
                f"{tower} embeddings of the two sides differ by {numbers['max_abs']:.1e} (at most "
                f"{MAX_ABS:.0e} is allowed), cosine {numbers['min_cosine']:.6f} (at least "
                f"{MIN_COSINE}); nothing was converted"
            )
    scales = report["logit_scale"]
    if not np.isclose(scales["ours"], scales["theirs"], rtol=1e-6):
        raise CheckpointError(f"the temperatures differ: {scales}; nothing was converted")


def random_images(res: int, seed: int = 0) -> np.ndarray:
    """(B, R, R, 3) float32, as if normalised: blocks of colour, which differ, and grain."""
    rng = np.random.default_rng(seed)
    coarse = rng.standard_normal((NUM_IMAGES, 4, 4, 3), np.float32)
    blocks = coarse.repeat(-(-res // 4), axis=1).repeat(-(-res // 4), axis=2)[:, :res, :res]
    return blocks + 0.5 * rng.standard_normal((NUM_IMAGES, res, res, 3), np.float32)


def random_tokens(vocab_size: int, length: int) -> np.ndarray:
    """(B, L) int32 ids from all of the vocabulary."""
    generator = np.random.default_rng(0)
    return generator.integers(0, vocab_size, (NUM_RANDOM_TEXTS, length), dtype=np.int32)


def _ours(
    model: CLIP, leaves: rules.Arrays, images_BRRC: np.ndarray, tokens_BL: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    model = models.with_options(model, dtype=jnp.float32, attention="xla")
    model = model.clone(temperature_max=None)
    with jax.default_matmul_precision("highest"):
        variables = {"params": trees.unflatten(leaves)}
        outputs: Any = jax.jit(model.apply)(variables, images_BRRC, tokens_BL)
    zimg_BE, ztxt_BE, scale = (np.asarray(x) for x in outputs)
    return zimg_BE, ztxt_BE, float(scale)


def _theirs(
    path: Path, images_BRRC: np.ndarray, tokens_BL: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
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
    return {
        "max_abs": float(np.abs(ours_BE - theirs_BE).max()),
        "min_cosine": float(cosine_B.min()),
    }

"""Parity of our model and its converted form, on the same inputs.

B inputs, R pixels a side, L text tokens, E embedding.
"""

import random
from collections.abc import Callable, Sequence
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

NUM_STRINGS = 1_000
# First and last code points of blocks whose characters the tokenizers of both sides meet.
_BLOCKS = (
    (0x20, 0x7E),  # ASCII
    (0xA0, 0x24F),  # Latin
    (0x370, 0x52F),  # Greek, Cyrillic
    (0x5D0, 0x6FF),  # Hebrew, Arabic
    (0x900, 0x97F),  # Devanagari
    (0xE00, 0xE5B),  # Thai
    (0x1E00, 0x1FFF),  # more Latin and Greek
    (0x2010, 0x218B),  # punctuation, letterlike signs, fractions
    (0x3040, 0x30FF),  # Japanese
    (0x4E00, 0x9FFF),  # Chinese
    (0xAC00, 0xD7A3),  # Korean
    (0xFB00, 0xFB06),  # ligatures
    (0xFF01, 0xFF5E),  # full width
    (0x1F300, 0x1F64F),  # emoji
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


def many_scripts() -> list[str]:
    """Random strings of words in one or two scripts, some of them longer than 100 bytes."""
    rng = random.Random(0)

    def word(blocks: Sequence[tuple[int, int]]) -> str:
        length = rng.randint(1, 9) if rng.random() < 0.9 else rng.randint(20, 110)
        return "".join(chr(rng.randint(*rng.choice(blocks))) for _ in range(length))

    blocks = [rng.choices(_BLOCKS, k=rng.choice((1, 1, 2))) for _ in range(NUM_STRINGS)]
    return [" ".join(word(of_string) for _ in range(rng.randint(1, 6))) for of_string in blocks]


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

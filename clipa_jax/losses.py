"""Contrastive losses over the global batch, one pure function each.

B pairs in the global batch, E embedding. All arithmetic is float32.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Metrics = dict[str, jax.Array]
Loss = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, Metrics]]


def softmax(zimg_BE: jax.Array, ztxt_BE: jax.Array, scale: jax.Array) -> tuple[jax.Array, Metrics]:
    """CLIP's loss: cross entropy of each image over all texts and of each text over all images.

    Mean of the two directions (CLIP, arXiv 2103.00020, figure 3).

    Args:
      zimg_BE, ztxt_BE: unit-length embeddings of B pairs.
      scale: inverse temperature, a scalar.

    Returns:
      (loss, {"accuracy": share of images whose own text scores highest}).
    """
    logits_BB = jnp.dot(zimg_BE, ztxt_BE.T, preferred_element_type=jnp.float32) * scale
    match_B = jnp.diagonal(logits_BB)
    rows_B = jax.nn.logsumexp(logits_BB, axis=1)
    columns_B = jax.nn.logsumexp(logits_BB, axis=0)
    loss = jnp.mean((rows_B + columns_B) / 2 - match_B)
    accuracy = jnp.mean(jnp.argmax(logits_BB, axis=1) == jnp.arange(logits_BB.shape[0]))
    return loss, {"accuracy": accuracy}


LOSSES: dict[str, Loss] = {"softmax": softmax}

"""Contrastive losses over the global batch, exact on any mesh, chosen by name.

All arithmetic is float32. docs/big_batches.md has their memory and speed.
"""

from collections.abc import Callable

from jax.sharding import Mesh

from clipa_jax.losses import naive, tiled
from clipa_jax.losses.pairs import Loss, Metrics, repeated

__all__ = ["DUPLICATES", "LOSSES", "NEEDS_BIAS", "Loss", "Metrics", "build"]

# Each takes the mesh over which the batch is split.
LOSSES: dict[str, Callable[[Mesh], Loss]] = {
    "softmax": tiled.softmax,
    "sigmoid": tiled.sigmoid,
    "softmax_naive": lambda mesh: naive.softmax,
    "sigmoid_naive": lambda mesh: naive.sigmoid,
}
NEEDS_BIAS = ("sigmoid", "sigmoid_naive")
# What becomes of texts that read like an image's own: they stay negatives, or are left out.
DUPLICATES = ("keep", "mask")


def build(name: str, mesh: Mesh, duplicates: str = "keep") -> Loss:
    """A loss that also counts captions that occur more than once.

    Args:
      name: in `LOSSES`.
      mesh: over which the batch is split.
      duplicates: in `DUPLICATES`.

    Returns:
      A loss whose metrics have `duplicates` too where it is given hashes of captions: the
      share of samples whose caption another sample of the batch has as well.
    """
    loss = LOSSES[name](mesh)

    def counting(zimg_BE, ztxt_BE, scale, bias=None, caption_B=None):
        alike_B = caption_B if duplicates == "mask" else None
        value, metrics = loss(zimg_BE, ztxt_BE, scale, bias, alike_B)
        if caption_B is not None:
            metrics = {**metrics, "duplicates": repeated(caption_B)}
        return value, metrics

    return counting

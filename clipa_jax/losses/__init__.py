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
# Texts equal to the image's own: keep them as negatives, or mask them out.
DUPLICATES = ("keep", "mask")


def build(name: str, mesh: Mesh, duplicates: str = "keep") -> Loss:
    """A loss of `LOSSES` over the batch on a mesh, with a treatment of `DUPLICATES`.

    Given hashes of captions, it adds the metric `duplicates`, see `pairs.repeated`.
    """
    loss = LOSSES[name](mesh)

    def with_duplicates(zimg_BE, ztxt_BE, scale, bias=None, caption_B=None):
        masked_B = caption_B if duplicates == "mask" else None
        value, metrics = loss(zimg_BE, ztxt_BE, scale, bias, masked_B)
        if caption_B is not None:
            metrics = {**metrics, "duplicates": repeated(caption_B)}
        return value, metrics

    return with_duplicates

"""Weights by name in every format that is read or written; `open_weights` opens any of them."""

from clipa_jax.weights.kinds import OpenClipWeights, Weights, open_weights

__all__ = ["OpenClipWeights", "Weights", "open_weights"]

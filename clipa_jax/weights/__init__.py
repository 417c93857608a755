"""Weights by name in every format that is read or written; `open_weights` opens any of them."""

from clipa_jax.weights.kinds import RESULT, Weights, open_clip_weights, open_weights

__all__ = ["RESULT", "Weights", "open_clip_weights", "open_weights"]

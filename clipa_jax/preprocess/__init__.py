"""Preprocessing ops, written in TensorFlow; importing the package registers all of them."""

from clipa_jax import quiet

with quiet.stderr():
    import tensorflow  # noqa: F401 (here first, since only its first import makes noise)

from clipa_jax.preprocess import image, text

__all__ = ["image", "text"]

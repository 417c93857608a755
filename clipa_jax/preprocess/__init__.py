"""Preprocessing ops, written in TensorFlow; importing the package registers all of them."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow is first imported

from clipa_jax.preprocess import image, text

__all__ = ["image", "text"]

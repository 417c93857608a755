"""Preprocessing ops, written in TensorFlow; importing the package registers all of them."""

import contextlib
import importlib
import sys

from clipa_jax.runtime import quiet

# It comes with PyTorch's CUDA builds. Loaded after TensorFlow, as torchvision would do it, it
# crashes the interpreter; before it, both work (seen with Triton 3.7 and TensorFlow 2.21).
if "tensorflow" not in sys.modules:
    with contextlib.suppress(ImportError):
        importlib.import_module("triton")

with quiet.stderr():  # its first import makes noise, and so does its first look for GPUs
    import tensorflow as tf

    # TensorFlow only prepares data. This cannot wait: a hook of tensorflow_datasets looks for
    # devices before any main function runs.
    tf.config.set_visible_devices([], "GPU")
    tf.config.set_visible_devices([], "TPU")

from clipa_jax.preprocess import crop, decode, image, text

__all__ = ["crop", "decode", "image", "text"]

"""CLIP training in JAX on few tokens first (CLIPA), from a laptop to a pod."""

import os

# etils' paths reach buckets by fsspec, here and in Orbax and JAX: see docs/architecture.md.
os.environ.setdefault("EPATH_USE_TF", "0")

__version__ = "0.1.0"


def __getattr__(name: str):
    # `clipa_jax.load` pulls in TensorFlow for preprocessing, which the model, its losses
    # and its benchmarks must not need.
    if name == "load":
        from clipa_jax.loading import load

        return load
    raise AttributeError(f"module 'clipa_jax' has no attribute {name!r}")

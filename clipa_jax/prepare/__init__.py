"""Preparing datasets for training, and inspecting them.

Samples are read through the sources of `clipa_jax.data`; only `flow` imports Apache Beam.
"""

import clipa_jax.preprocess  # noqa: F401 (first, since it keeps TensorFlow quiet)

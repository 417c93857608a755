"""Datasets made ready for training, and looked at before it.

Reading goes through the sources of `clipa_jax.data`; only `flow` imports Apache Beam.
"""

import clipa_jax.preprocess  # noqa: F401 (first, since it keeps TensorFlow quiet)

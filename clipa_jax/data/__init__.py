"""The data front end: sources, the order of samples, the host pipeline, and the way to devices."""

import clipa_jax.preprocess  # noqa: F401 (first, since it keeps TensorFlow quiet)

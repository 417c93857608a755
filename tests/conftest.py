"""What all tests share: eight CPU devices, whatever the machine has, and no chatter."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# gcsfs asks Google for the type of each bucket; an emulator does not know.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"

import jax  # noqa: E402

# Before anything looks at the devices; tests of one device take the first.
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)

from clipa_jax import preprocess  # noqa: E402, F401, TensorFlow in the way that the package does it

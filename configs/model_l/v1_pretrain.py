"""L/16 (CLIPA-v1), stage 1 of 2: 17 image and 16 text tokens; `:i37_t8` for 37 and 8.

On eight A100s, six epochs of LAION-400M.
"""

from clipa_jax.config import recipes


def get_config(arg=""):
    return recipes.config("L/16", "pretrain", arg)

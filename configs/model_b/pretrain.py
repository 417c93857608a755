"""B/16 (CLIPA-v1), stage 1 of 2: seven epochs at 112 px (or `:res=64`, `:res=160`).

`:i50_t16` is the run on eight A100s: six epochs with 16 text tokens.
"""

from clipa_jax.config import recipes


def get_config(arg=""):
    return recipes.config("B/16", "pretrain", arg)

"""S/16 (CLIPA-v1), stage 1 of 2: seven epochs at 112 px (or `:res=64`, `:res=160`)."""

from clipa_jax.config import recipes


def get_config(arg=""):
    return recipes.config("S/16", "pretrain", arg)

"""S/16 (CLIPA-v1), both stages in order; `:res=64` or `:res=160` for another pre-training."""

from clipa_jax.config import recipes


def get_config(arg=""):
    return recipes.config("S/16", "schedule", arg)

"""L/16 (CLIPA-v1), both stages in order; `:i37_t8` for 37 image and 8 text tokens."""

from clipa_jax.config import recipes


def get_config(arg=""):
    return recipes.config("L/16", "schedule", arg)

"""B/16 (CLIPA-v1), both stages in order; `:i50_t16` for the run on eight A100s."""

from clipa_jax.config import recipes


def get_config(arg=""):
    return recipes.config("B/16", "schedule", arg)

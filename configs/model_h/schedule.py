"""H/14, all three stages in order; `:short` for two, the second short and unmasked."""

from clipa_jax.config import recipes


def get_config(arg=""):
    return recipes.config("H/14", "schedule", arg)

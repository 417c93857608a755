"""G/14, all three stages in order."""

from clipa_jax.config import recipes


def get_config(arg=""):
    return recipes.config("G/14", "schedule", arg)

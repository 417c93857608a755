"""L/14, stage 3 of 3: 128M samples at 336 px with 40 % of the patches masked, 32 text tokens."""

from clipa_jax.config import recipes


def get_config(arg=""):
    return recipes.config("L/14", "finetune_336", arg)

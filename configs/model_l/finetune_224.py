"""L/14, stage 2 of 3: 512M samples at 224 px with 30 % of the patches masked, 32 text tokens."""

from clipa_jax.config import recipes


def get_config(arg=""):
    return recipes.config("L/14", "finetune_224", arg)

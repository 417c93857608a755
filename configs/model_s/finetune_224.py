"""S/16 (CLIPA-v1), stage 2 of 2: 4,000 steps at 224 px."""

from clipa_jax.config import recipes


def get_config(arg=""):
    return recipes.config("S/16", "finetune_224", arg)

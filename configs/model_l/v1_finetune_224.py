"""L/16 (CLIPA-v1), stage 2 of 2: 128M samples at 224 px; `:i37_t8` goes on from that one."""

from clipa_jax.config import recipes


def get_config(arg=""):
    return recipes.config("L/16", "finetune_224", arg)

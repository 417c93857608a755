"""G/14, stage 1 of 3: 12.8B samples at 84 px (`:res=70`: the released config), 8 text tokens."""

from clipa_jax.config import recipes


def get_config(arg=""):
    return recipes.config("G/14", "pretrain", arg)

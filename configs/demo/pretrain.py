"""The demo, stage 1 of 3: few image tokens, few text tokens."""

from configs.demo import recipe


def get_config(arg=""):
    return recipe.config("pretrain", arg)

"""The demo, stage 2 of 3: more tokens of both kinds, some patches masked."""

from configs.demo import recipe


def get_config(arg=""):
    return recipe.config("finetune_1", arg)

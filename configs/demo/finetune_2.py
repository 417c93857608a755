"""The demo, stage 3 of 3: full length, some patches masked."""

from configs.demo import recipe


def get_config(arg=""):
    return recipe.config("finetune_2", arg)

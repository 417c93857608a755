"""Inverse scaling, stage 2 of 2: at full length, the same for every point."""

from configs.scaling import recipe


def get_config(arg=""):
    return recipe.config("finetune", arg)

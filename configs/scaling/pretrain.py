"""Inverse scaling, stage 1 of 2: with the tokens that the grid says."""

from configs.scaling import recipe


def get_config(arg=""):
    return recipe.config("pretrain", arg)

"""The demo's model at full length from the start, for `make demo-compare`."""

from configs.demo import recipe


def get_config(arg=""):
    return recipe.config("full_length", arg)

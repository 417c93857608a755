"""The demo, all three stages in order; `:quick` takes about a minute."""

from configs.demo import recipe


def get_config(arg=""):
    return recipe.config("schedule", arg)

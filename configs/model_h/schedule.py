"""H/14, all three stages in order."""

from configs import recipes


def get_config(arg=""):
    return recipes.v2("H/14", "schedule", arg)

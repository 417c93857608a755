"""One point of the inverse scaling grid, see tools/sweeps/inverse_scaling.sh."""

from configs.scaling import recipe


def get_config(arg=""):
    return recipe.config("schedule", arg)

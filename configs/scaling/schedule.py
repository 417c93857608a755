"""One point of the inverse scaling grid, both stages."""

from clipa_jax.config import recipes


def get_config():
    return recipes.schedule("scaling/pretrain", "scaling/finetune")

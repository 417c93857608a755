"""One point of the inverse scaling grid, stage 2 of 2: the same short stage for all points."""

from clipa_jax.config import recipes


def get_config():
    c = recipes.follow(recipes.load("scaling/pretrain"), "finetune", after="pretrain")
    c.total_examples = 2_400
    c.optim.lr_per_256 = 4e-3
    return c

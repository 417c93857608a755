"""S/16 (CLIPA-v1), stage 1 of 2: B/16's recipe.

python -m clipa_jax.train --config=configs/model_s/pretrain.py --workdir=W
"""

from clipa_jax.config import recipes


def get_config():
    c = recipes.load("model_b/pretrain")
    c.model.size = "S/16"
    return c

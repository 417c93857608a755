"""L/16 (CLIPA-v1), both stages; `:i37_t8` for 37 image and 8 text tokens.

python -m clipa_jax.train --config=configs/model_l/v1_schedule.py --workdir=W
"""

from clipa_jax.config import recipes


def get_config(variant=""):
    return recipes.schedule("model_l/v1_pretrain", "model_l/v1_finetune_224", variant=variant)

"""B/16 (CLIPA-v1), both stages; `:i50_t16` for the run on eight A100s.

python -m clipa_jax.train --config=configs/model_b/schedule.py --workdir=W
"""

from clipa_jax.config import recipes


def get_config(variant=""):
    return recipes.schedule("model_b/pretrain", "model_b/finetune_224", variant=variant)

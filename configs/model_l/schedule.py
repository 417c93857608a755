"""L/14 (CLIPA-v2), all three stages.

python -m clipa_jax.train --config=configs/model_l/schedule.py --workdir=W
"""

from clipa_jax.config import recipes


def get_config():
    return recipes.schedule("model_l/pretrain", "model_l/finetune_224", "model_l/finetune_336")

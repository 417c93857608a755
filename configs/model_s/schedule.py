"""S/16 (CLIPA-v1), both stages.

python -m clipa_jax.train --config=configs/model_s/schedule.py --workdir=W
"""

from clipa_jax.config import recipes


def get_config():
    return recipes.schedule("model_s/pretrain", "model_s/finetune_224")

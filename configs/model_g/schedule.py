"""G/14 (CLIPA-v2), all three stages.

python -m clipa_jax.train --config=configs/model_g/schedule.py --workdir=W
"""

from clipa_jax.config import recipes


def get_config():
    return recipes.schedule("model_g/pretrain", "model_g/finetune_224", "model_g/finetune_336")

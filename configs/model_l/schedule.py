"""L/14 (CLIPA-v2), all three stages; `:packed` for TPU, see docs/performance.md.

python -m clipa_jax.train --config=configs/model_l/schedule.py --workdir=W
"""

from clipa_jax.config import recipes


def get_config(variant=""):
    stages = ("model_l/pretrain", "model_l/finetune_224", "model_l/finetune_336")
    return recipes.schedule(*stages, variant=variant)

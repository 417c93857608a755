"""H/14 (CLIPA-v2), all three stages; `:short` for pre-training and the short unmasked tuning.

python -m clipa_jax.train --config=configs/model_h/schedule.py --workdir=W
"""

from clipa_jax.config import recipes, schema


def get_config(variant=""):
    recipes.check_variant(variant, "short")
    if variant == "short":
        tuning = recipes.load("model_h/finetune_224", "short")
        return schema.schedule({"pretrain": recipes.load("model_h/pretrain"), tuning.name: tuning})
    return recipes.schedule("model_h/pretrain", "model_h/finetune_224", "model_h/finetune_336")

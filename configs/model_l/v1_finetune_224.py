"""L/16 (CLIPA-v1), stage 2 of 2: 128M samples at 224 px.

python -m clipa_jax.train --config=configs/model_l/v1_finetune_224.py --workdir=W

The variant `:i37_t8` continues from the stage of that name.
"""

from clipa_jax.config import recipes


def get_config(variant=""):
    recipes.check_variant(variant, "i17_t16", "i37_t8")
    c = recipes.follow(recipes.load("model_l/v1_pretrain"), "finetune_224", after="pretrain")
    c.total_examples = 131_072_000
    c.warmup_steps = 3_571
    c.input.batch_size = 7_168
    c.input.res = 224
    c.input.text_len = 32 if variant == "i37_t8" else 16
    # differs from CLIPA: image positions became learned there, here they stay fixed.
    c.input.reduction = "truncate"
    c.optim.lr_per_256 = 8e-7
    return c

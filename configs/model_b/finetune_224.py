"""B/16 (CLIPA-v1), stage 2 of 2: 4,000 steps at 224 px.

python -m clipa_jax.train --config=configs/model_b/finetune_224.py --workdir=W

The variant `:i50_t16` continues the run on eight A100s.
"""

from clipa_jax.config import recipes


def get_config(variant=""):
    recipes.check_variant(variant, "i50_t16")
    c = recipes.follow(recipes.load("model_b/pretrain"), "finetune_224", after="pretrain")
    c.total_examples = 4_000 * 32_768
    c.warmup_steps = 800
    c.input.res = 224
    c.optim.lr_per_256 = 8e-7
    if variant == "i50_t16":
        # differs from CLIPA: image positions became learned there, here they stay fixed.
        c.warmup_steps = 3_072
        c.input.batch_size = 8_192
        c.input.text_len = 16
    return c

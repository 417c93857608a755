"""H/14 (CLIPA-v2), stage 2 of 3: 512M samples at 224 px, 30 % of the patches masked.

python -m clipa_jax.train --config=configs/model_h/finetune_224.py --workdir=W

Batch 32,768, peak learning rate 5.12e-5, mask: random, 30 %.

The variant `:short` (the released unmask_tuning.py) sees all patches of 128M samples, at twice
the rate and without color jitter.
"""

from clipa_jax.config import recipes


def get_config(variant=""):
    recipes.check_variant(variant, "short")
    c = recipes.stage("finetune_224", after="pretrain")
    c.model.size = "H/14"
    c.total_examples = 524_288_000
    c.warmup_examples = 26_214_400
    c.mask.name, c.mask.ratio = "random", 0.3
    c.input.batch_size = 32_768
    c.input.res = 224
    c.input.text_len = 32
    c.optim.lr_per_256 = 4e-7
    c.sharding.preset = "fsdp"
    recipes.recompute(c, image="full", text="full")
    if variant == "short":
        c.total_examples = 131_072_000
        c.mask.ratio = 0.0
        c.input.batch_size = 16_384
        c.input.preprocess = recipes.augmentation(jitter=0.0)
        c.optim.lr_per_256 = 8e-7
    return c

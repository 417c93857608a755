"""H/14 (CLIPA-v2), stage 3 of 3: 128M samples at 336 px, 40 % of the patches masked.

python -m clipa_jax.train --config=configs/model_h/finetune_336.py --workdir=W

Batch 16,384, peak learning rate 6.4e-6, mask: random, 40 %.
"""

from clipa_jax.config import recipes


def get_config():
    c = recipes.stage("finetune_336", after="finetune_224")
    c.model.size = "H/14"
    c.total_examples = 131_072_000
    c.warmup_examples = 26_214_400
    c.mask.name, c.mask.ratio = "random", 0.4
    c.input.batch_size = 16_384
    c.input.res = 336
    c.input.text_len = 32
    c.optim.lr_per_256 = 1e-7
    c.sharding.preset = "fsdp"
    recipes.recompute(c, image="full", text="full")
    return c

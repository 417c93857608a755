"""H/14 (CLIPA-v2), stage 1 of 3: 12.8B samples at 84 px with 8 text tokens.

python -m clipa_jax.train --config=configs/model_h/pretrain.py --workdir=W

Batch 65,536, peak learning rate 2.048e-3, mask: none.

The cheaper published variant has 70 px: --config.input.res=70. Source: arXiv 2306.15658 and its
released configs.
"""

from clipa_jax.config import recipes


def get_config():
    c = recipes.stage("pretrain")
    c.model.size = "H/14"
    c.total_examples = 12_811_670_000  # CLIPA-v2 counts 10,000 epochs of ImageNet's 1,281,167
    c.warmup_steps = 3_200
    c.input.batch_size = 65_536
    c.input.res = 84
    c.input.text_len = 8
    c.input.reduction = "syntax"
    c.input.preprocess_eval = recipes.CROP
    c.optim.lr_per_256 = 8e-6
    # 64 chips of 16 GB hold the batch if they split the parameters and recompute all layers.
    c.sharding.preset = "fsdp"
    recipes.recompute(c, image="full", text="full")
    return c

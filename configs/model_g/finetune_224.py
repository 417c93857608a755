"""G/14 (CLIPA-v2, t5x branch), stage 2 of 3: 512M samples at 224 px, 40 % of the patches masked.

python -m clipa_jax.train --config=configs/model_g/finetune_224.py --workdir=W

Batch 16,384, peak learning rate 2.56e-5, mask: random, 40 %.

H/14's recipe with half the batch, more masks and no warm-up.
"""

from clipa_jax.config import recipes


def get_config():
    c = recipes.load("model_h/finetune_224")
    c.model.size = "G/14"
    c.warmup_examples, c.warmup_steps = None, 0
    c.mask.ratio = 0.4
    c.input.batch_size = 16_384
    c.optim.decay = "all_but_small"
    # 2.5 billion parameters with their moments are split over 64 chips, not more: the widths of
    # 1,664 do not divide by more than 128.
    c.mesh.replica, c.mesh.fsdp = -1, 64
    return c

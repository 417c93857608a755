"""G/14 (CLIPA-v2, t5x branch), stage 3 of 3: H/14's recipe, 128M samples at 336 px.

python -m clipa_jax.train --config=configs/model_g/finetune_336.py --workdir=W

Batch 16,384, peak learning rate 6.4e-6, mask: random, 40 %.
"""

from clipa_jax.config import recipes


def get_config():
    c = recipes.load("model_h/finetune_336")
    c.model.size = "G/14"
    c.optim.decay = "all_but_small"
    # 2.5 billion parameters with their moments are split over 64 chips, not more: the widths of
    # 1,664 do not divide by more than 128.
    c.mesh.replica, c.mesh.fsdp = -1, 64
    return c

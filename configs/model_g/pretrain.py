"""G/14 (CLIPA-v2, t5x branch), stage 1 of 3: H/14's recipe at half the rate.

python -m clipa_jax.train --config=configs/model_g/pretrain.py --workdir=W

Batch 65,536, peak learning rate 1.024e-3, mask: none.

12.8B samples at 84 px with 8 text tokens. The branch's config file says 70 px, the published G/14
was trained at 84.
"""

from clipa_jax.config import recipes


def get_config():
    c = recipes.load("model_h/pretrain")
    c.model.size = "G/14"
    c.optim.lr_per_256 = 4e-6
    c.optim.decay = "all_but_small"
    # 2.5 billion parameters with their moments are split over 64 chips, not more: the widths of
    # 1,664 do not divide by more than 128.
    c.mesh.replica, c.mesh.fsdp = -1, 64
    return c

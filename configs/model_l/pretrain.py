"""L/14 (CLIPA-v2), stage 1 of 3: H/14's recipe, 12.8B samples at 84 px with 8 text tokens.

The variant `:packed` is for TPU, see docs/performance.md.

python -m clipa_jax.train --config=configs/model_l/pretrain.py --workdir=W

Batch 65,536, peak learning rate 2.048e-3, mask: none.
"""

from clipa_jax.config import recipes


def get_config(variant=""):
    recipes.check_variant(variant, "packed")
    c = recipes.load("model_h/pretrain")
    c.model.size = "L/14"
    # On 16 chips of 16 GB, which hold the whole batch with the packed kernels if they split the
    # parameters and recompute all layers; else micro-batches, so small that only attention is
    # computed again.
    if variant == "packed":
        recipes.packed_on_tpu(c)
        recipes.recompute(c, image="full", text="full")
    else:
        c.microbatch = 4_096
        c.sharding.preset = "dp"
        recipes.recompute(c, image="dots_no_batch", text="dots_no_batch")
    return c

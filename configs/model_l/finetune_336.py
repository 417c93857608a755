"""L/14 (CLIPA-v2), stage 3 of 3: H/14's recipe, 128M samples at 336 px, 40 % of the patches masked.

The variant `:packed` is for TPU, see docs/performance.md.

python -m clipa_jax.train --config=configs/model_l/finetune_336.py --workdir=W

Batch 16,384, peak learning rate 6.4e-6, mask: random, 40 %.
"""

from clipa_jax.config import recipes


def get_config(variant=""):
    recipes.check_variant(variant, "packed")
    c = recipes.load("model_h/finetune_336")
    c.model.size = "L/14"
    # On 16 chips of 16 GB: micro-batches, so small that at most attention is computed again; they
    # are twice as large with the packed kernels and split parameters.
    if variant == "packed":
        c.microbatch = 1_024
        recipes.packed_on_tpu(c)
        recipes.recompute(c, image="qkv+attention+out+hidden", text="dots_no_batch")
    else:
        c.microbatch = 512
        c.sharding.preset = "dp"
        recipes.recompute(c, image="dots_no_batch", text="dots_no_batch")
    return c

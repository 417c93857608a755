"""B/16 (CLIPA-v1), stage 1 of 2: seven epochs of LAION-400M at 112 px with 32 text tokens.

python -m clipa_jax.train --config=configs/model_b/pretrain.py --workdir=W

Also published: --config.input.res=64 or 160, and the variant `:i50_t16`, six epochs with 50 image
and 16 text tokens on eight A100s. Source: arXiv 2305.07017 and its released configs and scripts.
"""

from clipa_jax.config import recipes


def get_config(variant=""):
    recipes.check_variant(variant, "i50_t16")
    c = recipes.stage("pretrain")
    c.model.size = "B/16"
    c.model.image.pool = "tok"
    c.model.image.remat = "auto"
    c.total_examples = 7 * recipes.LAION_400M
    c.warmup_steps = 1_600
    c.input.batch_size = 32_768
    c.input.res = 112
    c.input.text_len = 32
    c.input.preprocess = recipes.augmentation(jitter=0.0)
    c.input.preprocess_eval = recipes.CROP
    c.optim.lr_per_256 = 8e-6
    c.optim.mu_dtype = "float32"
    if variant == "i50_t16":
        # differs from CLIPA: trained there with CLIP's byte pairs, here with BERT's pieces.
        c.total_examples = 6 * recipes.LAION_400M
        c.warmup_steps = 782
        c.input.batch_size = 65_536
        c.input.text_len = 16
    return c

"""L/16 (CLIPA-v1), stage 1 of 2: six epochs of LAION-400M on eight A100s.

python -m clipa_jax.train --config=configs/model_l/v1_pretrain.py --workdir=W

17 image and 16 text tokens; the variant `:i37_t8` has 37 and 8. Source: arXiv 2305.07017.
"""

from clipa_jax.config import recipes


def get_config(variant=""):
    recipes.check_variant(variant, "i17_t16", "i37_t8")
    c = recipes.stage("pretrain")
    c.model.size = "L/16"
    c.model.image.remat = "auto"
    c.total_examples = 6 * recipes.LAION_400M
    c.warmup_steps = 1_563
    c.input.batch_size = 32_768
    c.input.res, c.input.text_len = (96, 8) if variant == "i37_t8" else (64, 16)
    # differs from CLIPA: trained there with CLIP's byte pairs, here with BERT's pieces.
    c.input.reduction = "syntax"
    c.input.preprocess_eval = recipes.CROP
    c.optim.lr_per_256 = 8e-6
    c.optim.mu_dtype = "float32"
    return c

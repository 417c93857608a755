"""One point of the inverse scaling grid, stage 1 of 2, on the bundled emoji artwork.

`tools/sweeps/inverse_scaling.sh` overrides size, tokens, reduction and seed. Every point sees as
many samples, and as in CLIPA (arXiv 2305.07017) all of them end with the same short stage at full
length, so that all compared models have seen full pictures and captions when they are evaluated.
"""

from ml_collections import ConfigDict

from clipa_jax.config import recipes

DATA = "tfds:data/emoji/1.0.0"


def get_config():
    c = recipes.stage("pretrain")
    c.total_examples = 24_000
    c.warmup_percent = 10.0
    c.eval_percent = c.checkpoint_percent = 100.0
    c.checkpoint.keep_last = 1
    c.logs.tensorboard = False
    c.model.size = "mini/8"
    c.model.dtype = "float32"
    c.model.text.vocab_size = 2_048
    c.model.text.pool = "gap"
    c.input.source = DATA
    c.input.cache = "encoded"
    c.input.vocab = "data/emoji/vocab.txt"
    c.input.batch_size = 32  # after 16,000 samples 0.1 nats better than 64
    c.input.res = 64  # 64 patches of 8 pixels
    c.input.text_len = 16  # holds 95 % of the captions
    c.optim.lr_per_256 = 8e-3
    c.optim.b2 = 0.98
    c.optim.weight_decay = 0.1
    c.optim.grad_clip = 1.0
    c.cpu_devices = 1  # points run side by side instead
    c.evals = evals()
    return c


def evals():
    """Contrastive loss and zero-shot classification on pictures that training never sees.

    The page of held-out pictures takes the first zero-shot evaluation: the smaller split.
    """
    vendor = {"source": DATA, "split": "heldout_vendor"}
    concepts = {"type": "zero_shot", "label": "concept", "templates": "plain"}
    by_group = {"by": "group", "without": ("flags",)}
    return ConfigDict(
        {
            "contrastive": {"type": "contrastive", **vendor},
            "pictures": {**concepts, "source": DATA, "split": "heldout_pictures"},
            "zero_shot": {**concepts, **vendor, **by_group},
        }
    )

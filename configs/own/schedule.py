"""Your own pairs: three stages, few tokens first. Only the data must be named.

python -m clipa_jax.train --config=configs/own/schedule.py:S --workdir=W \\
    --config.all.input.source=tfds:data/pairs/1.0.0

The argument is the size: Ti, S (default) or B with patches of 16 pixels, or with others, as Ti/8;
mini, the size of the demo, is for CPUs.
Batch, samples and all else that is left open follow from the number of pairs and the devices
(`clipa_jax/training/derive.py` has the rules); `--config.minutes=60` sets the samples by time.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from clipa_jax.config import recipes, schema

# Share of the samples, patches a side, text tokens, masked share, rate over that of pre-training.
STAGES = {
    "pretrain": (0.88, 4, 8, 0.0, 1.0),
    "finetune_1": (0.10, 7, 16, 0.3, 0.5),
    "finetune_2": (0.02, 10, 24, 0.1, 0.2),
}
RATES = {"mini": 2e-3, "Ti": 1e-3, "S": 7e-4, "B": 4e-4}  # peak learning rate for a batch of 256


def get_config(variant="S"):
    size, _, patch = variant.partition("/")
    recipes.check_variant(size, *RATES)
    before, stages = "", {}
    for name in STAGES:
        stages[name] = stage(name, before, size, int(patch or 16))
        before = name
    c = schema.schedule(stages)
    c.shares = tuple(share for share, *_ in STAGES.values())
    c.pairs = placeholder(int)  # that training reads; None: those of the source
    c.minutes = placeholder(float)  # of training and evaluation, all stages together
    return c


def stage(name, before, size, patch):
    _, patches, text_len, masked, rate = STAGES[name]
    c = recipes.follow(recipes.stage(name), name, before, text_positions="text_positions_kept")
    c.warmup_percent = 5.0
    c.log_percent, c.log_steps = 2.0, None
    c.eval_percent = 100.0
    c.model.size = f"{size}/{patch}"
    c.model.layers = c.model.dtype = ""  # derived, like all that is 0, "" or None
    c.model.text.vocab_size = 0
    c.model.text.pool = "gap"
    c.mask.ratio = masked
    c.input.res = patches * patch
    c.input.text_len = text_len
    c.input.preprocess = recipes.augmentation(jitter=0.0)
    c.input.cache = ""
    c.input.shuffle_window = 0
    c.optim.lr_per_256 = RATES[size] * rate
    c.optim.b2 = 0.98
    c.optim.grad_clip = 1.0
    c.evals = ConfigDict(
        {
            "retrieval": {"type": "retrieval", "source": placeholder(str), "split": "validation"},
            "contrastive": {
                "type": "contrastive", "source": placeholder(str), "split": "validation"
            },
        }
    )  # fmt: skip
    return c

"""The demo, stage 2 of 3: more image and text tokens, 30 % of the patches masked.

python -m clipa_jax.train --config=configs/demo/finetune_1.py --workdir=runs/demo

Text positions stay where they are when the text grows; stretching them, as the published stages do,
costs accuracy in so short a run (docs/measurements/demo.md).
"""

from clipa_jax.config import recipes


def get_config():
    c = recipes.load("demo/pretrain")
    recipes.follow(c, "finetune_1", after="pretrain", text_positions="text_positions_kept")
    c.total_examples = 128 * 1_500
    c.eval_percent = 100 / 3
    c.mask.ratio = 0.3
    c.input.res = 40
    c.input.text_len = 10
    c.optim.lr_per_256 = 1.5e-3
    return c

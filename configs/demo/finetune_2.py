"""The demo, stage 3 of 3: full length.

python -m clipa_jax.train --config=configs/demo/finetune_2.py --workdir=runs/demo

A stage this short does not adapt to many masked patches: with 30 % of them masked, evaluation,
which sees all patches, loses a point.
"""

from clipa_jax.config import recipes


def get_config():
    c = recipes.follow(recipes.load("demo/finetune_1"), "finetune_2", after="finetune_1")
    c.total_examples = 128 * 350
    c.eval_percent = 50.0
    c.mask.ratio = 0.1
    c.input.res = 48
    c.input.text_len = 12
    c.optim.lr_per_256 = 7e-4
    return c

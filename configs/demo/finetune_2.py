"""The demo, stage 3 of 3: full length.

python -m clipa_jax.train --config=configs/demo/finetune_2.py --workdir=runs/demo

A stage this short does not adapt to many masked patches: with 30 % of them masked, evaluation,
which sees all patches, loses a point. Its rate is low, so that it does not leave what the stage
before has reached.
"""

from clipa_jax.config import recipes


def get_config():
    c = recipes.load("demo/finetune_1")
    recipes.follow(c, "finetune_2", after="finetune_1", text_positions="text_positions_kept")
    c.total_examples = 128 * 1_000
    c.eval_percent = 50.0
    c.mask.ratio = 0.1
    c.input.res = 48
    c.input.text_len = 12
    c.optim.lr_per_256 = 3e-4
    return c

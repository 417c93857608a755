"""The demo, stage 2 of 3: more image and text tokens, 30 % of the patches masked.

python -m clipa_jax.train --config=configs/demo/finetune_1.py --workdir=runs/demo

Text positions are stretched to the new length as in the published stages, which loses part of what
they learned; so the text grows in small steps.
"""

from clipa_jax.config import recipes


def get_config():
    c = recipes.follow(recipes.load("demo/pretrain"), "finetune_1", after="pretrain")
    c.total_examples = 128 * 1_500
    c.eval_percent = 100 / 3
    c.mask.ratio = 0.3
    c.input.res = 40
    c.input.text_len = 10
    c.optim.lr_per_256 = 1.5e-3
    return c

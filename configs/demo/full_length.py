"""The demo's model at full length from the start, for `make demo-compare`.

python -m clipa_jax.train --config=configs/demo/full_length.py --workdir=runs/demo-compare
"""

from clipa_jax.config import recipes


def get_config():
    c = recipes.load("demo/pretrain")
    c.name = "full_length"
    c.eval_percent = 12.5
    c.input.res = 48
    c.input.text_len = 12
    return c

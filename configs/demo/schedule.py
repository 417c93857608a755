"""The demo, all three stages; `:quick` is the same path in about a minute.

python -m clipa_jax.train --config=configs/demo/schedule.py --workdir=runs/demo
"""

from ml_collections import ConfigDict

from clipa_jax.config import recipes


def get_config(variant=""):
    recipes.check_variant(variant, "quick")
    c = recipes.schedule("demo/pretrain", "demo/finetune_1", "demo/finetune_2")
    if variant == "quick":
        for name in c.stages:
            shorten(c[name])
    return c


def shorten(c):
    """A 50th of the samples, fewer layers, evaluated and saved at the end alone."""
    c.total_examples //= 50
    c.eval_percent = c.checkpoint_percent = 100.0
    c.evals = ConfigDict({name: c.evals[name] for name in ("zero_shot", "retrieval")})
    c.model.image.depth = 2

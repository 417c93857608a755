"""Zero-shot classification of datasets by name: `zero_shot.py:cifar10,food101`."""

from clipa_jax.config import evals


def get_config(arg=""):
    c = evals.config()
    evals.zero_shot(c, arg.split(","))
    return c

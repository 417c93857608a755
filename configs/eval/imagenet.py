"""Zero-shot classification of ImageNet-1k and its shifts: V2, A, R, Sketch, ReaL, ObjectNet."""

from clipa_jax.config import evals


def get_config():
    c = evals.config()
    evals.zero_shot(c, evals.IMAGENET)
    return c

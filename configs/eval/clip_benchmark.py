"""All datasets for which CLIP_benchmark has English prompts, and retrieval."""

from clipa_jax.config import evals


def get_config():
    c = evals.config()
    evals.zero_shot(c, (*evals.IMAGENET, *evals.VTAB, *evals.OTHERS))
    evals.add(c, "retrieval", evals.RETRIEVAL)
    return c

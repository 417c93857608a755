"""Linear probes, few-shot and full, of datasets by name: `linear_probe.py:cifar10`."""

from clipa_jax.config import evals


def get_config(arg="imagenet1k"):
    c = evals.config()
    names = arg.split(",")
    evals.add(c, "linear_probe", names, "_few_shot", fit="ridge", shots=(1, 5, 10, 25))
    evals.add(c, "linear_probe", names, "_ridge", fit="ridge")
    evals.add(c, "linear_probe", names, "_logistic", fit="logistic")
    return c

"""Zero-shot classification of data sets by name: `zero_shot.py:cifar10,food101`."""

from configs.eval import parts


def get_config(arg=""):
    c = parts.config()
    parts.zero_shot(c, arg.split(","))
    return c

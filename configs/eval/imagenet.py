"""Zero-shot classification of ImageNet-1k and its shifts: V2, A, R, Sketch, ReaL, ObjectNet."""

from configs.eval import parts


def get_config():
    c = parts.config()
    parts.zero_shot(c, parts.IMAGENET)
    return c

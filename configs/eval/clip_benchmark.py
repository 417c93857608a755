"""All data sets for which CLIP_benchmark has English prompts, and retrieval."""

from configs.eval import parts


def get_config():
    c = parts.config()
    parts.zero_shot(c, (*parts.IMAGENET, *parts.VTAB, *parts.OTHERS))
    parts.add(c, "retrieval", parts.RETRIEVAL)
    return c

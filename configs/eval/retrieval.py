"""Retrieval on COCO and Flickr30k, or on others: `retrieval.py:flickr8k`."""

from configs.eval import parts


def get_config(arg="mscoco_captions,flickr30k"):
    c = parts.config()
    parts.add(c, "retrieval", arg.split(","))
    return c

"""Retrieval on COCO and Flickr30k, or on others: `retrieval.py:flickr8k`."""

from clipa_jax.config import evals


def get_config(arg="mscoco_captions,flickr30k"):
    c = evals.config()
    evals.add(c, "retrieval", arg.split(","))
    return c

"""Retrieval on COCO and Flickr30k, or on others: `retrieval.py:flickr8k`."""

from ml_collections.config_dict import placeholder

from clipa_jax.config import evals


def get_config(arg="mscoco_captions,flickr30k"):
    c = evals.config()
    evals.add(c, "retrieval", arg.split(","))
    for section in c.evals.values():
        section.captions = placeholder(tuple)  # positions that are used; None: the data set's
        section.right = placeholder(str)  # own, or same_text; None: own for those with a name
    return c

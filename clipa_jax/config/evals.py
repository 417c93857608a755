"""Evaluators of data sets by name, for the configs in `configs/eval/`.

    python -m clipa_jax.evaluate --config=configs/eval/imagenet.py --checkpoint=W
    python -m clipa_jax.evaluate --config=configs/eval/zero_shot.py:cifar10,food101 \\
        --checkpoint=W --config.root=/data/evaluation

docs/evaluation.md has the names, and where each data set is looked for.
"""

from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from clipa_jax.config import schema

IMAGENET = (
    "imagenet1k",
    "imagenetv2",
    "imagenet_a",
    "imagenet_r",
    "imagenet_sketch",
    "imagenet_real",
    "objectnet",
)
VTAB = (
    "caltech101",
    "cifar100",
    "clevr_count_all",
    "clevr_closest_object_distance",
    "diabetic_retinopathy",
    "dmlab",
    "dsprites_label_orientation",
    "dsprites_label_x_position",
    "dtd",
    "eurosat",
    "kitti_closest_vehicle_distance",
    "flowers",
    "pets",
    "pcam",
    "resisc45",
    "smallnorb_label_azimuth",
    "smallnorb_label_elevation",
    "sun397",
    "svhn",
)
OTHERS = (
    "cifar10",
    "food101",
    "cars",
    "fgvc_aircraft",
    "mnist",
    "stl10",
    "gtsrb",
    "country211",
    "renderedsst2",
    "voc2007",
    "voc2007_multilabel",
    "fer2013",
)
RETRIEVAL = ("mscoco_captions", "flickr30k", "flickr8k")


def config() -> ConfigDict:
    """A config for evaluation with what all of its evaluators share."""
    c = schema.evaluation()
    c.root = ""  # a folder with data sets; TFDS has its own (TFDS_DATA_DIR)
    c.batch_size = 256  # global, of pictures and of texts
    c.preprocess = placeholder(str)  # ops on the pictures; None: the checkpoint's own
    c.language = "en"  # of names and sentences; others from an installed clip_benchmark
    return c


def add(c: ConfigDict, kind: str, names: Iterable[str], suffix: str = "", **arguments: Any) -> None:
    """Adds an evaluator of type `kind` for each data set, named after it and `suffix`.

    `names` are of the catalogue, or sources such as "clip_benchmark:/data/mine"; `arguments` are
    those of all evaluators. Raises `ValueError` without names.
    """
    names = [name for name in names if name]
    if not names:
        raise ValueError("name data sets after the colon, e.g. cifar10,food101")
    for name in names:
        section = ConfigDict({"type": kind, **arguments})
        for key in ("dataset", "source", "split"):
            section[key] = placeholder(str)
        if ":" in name:
            section.source, section.split = name, "test"
        else:
            section.dataset = name
        section.root = c.get_ref("root")
        section.batch_size = c.get_ref("batch_size")
        section.preprocess = c.get_ref("preprocess")
        key = name.rstrip("/").rpartition("/")[2].rpartition(":")[2].replace("-", "_")
        c.evals[key + suffix] = section


def zero_shot(c: ConfigDict, names: Iterable[str]) -> None:
    """Adds zero-shot classification of data sets."""
    before = set(c.evals)
    add(c, "zero_shot", names, canonicalize=False)
    for key in set(c.evals) - before:
        c.evals[key].language = c.get_ref("language")
        c.evals[key].templates = placeholder(object)  # None: those of the data set

"""Evaluators of datasets by name: of the published stages, of `configs/eval/`, from the shell.

docs/evaluation.md has the names, and where each dataset is looked for.
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
ALIASES = {"imagenet": "imagenet1k", "coco": "mscoco_captions"}  # in `--config.evals=`
# ImageNet-1k with the seven prompts that OpenAI chose of the eighty: cheap enough during training.
QUICK = "imagenet1k_7"


def published() -> ConfigDict:
    """The evaluators of the published stages: the suite at the end, a quick one while training."""
    c = ConfigDict()
    for name in IMAGENET:
        if name != "imagenet_real":
            c[name] = {"type": "zero_shot", "dataset": name, "when": "end"}
    c[QUICK] = {"type": "zero_shot", "dataset": "imagenet1k", "templates": "imagenet_7"}
    for name in ("mscoco_captions", "flickr30k"):
        c[name] = {"type": "retrieval", "dataset": name, "when": "end"}
    return c


def config() -> ConfigDict:
    """A config for evaluation with what all of its evaluators share."""
    c = schema.evaluation()
    c.batch_size = 256  # global, of pictures and of texts
    c.preprocess = placeholder(str)  # ops on the pictures; None: the checkpoint's own
    c.language = "en"  # of names and sentences; others from an installed clip_benchmark
    return c


def add(c: ConfigDict, kind: str, names: Iterable[str], suffix: str = "", **arguments: Any) -> None:
    """Adds an evaluator of type `kind` for each dataset, named after it.

    Names are those of the catalogue, or sources such as "clip_benchmark:/data/mine"; `suffix` ends
    the evaluators' names, `arguments` are keys of all of them.
    """
    names = [name for name in names if name]
    if not names:
        raise ValueError("name datasets after the colon, e.g. cifar10,food101")
    for name in names:
        c.evals[name_of(name) + suffix] = section(c, kind, name, **arguments)


def zero_shot(c: ConfigDict, names: Iterable[str]) -> None:
    """Adds zero-shot classification of datasets."""
    add(c, "zero_shot", names, canonicalize=False)


def name_of(dataset: str) -> str:
    """The evaluator's name for a dataset or a source."""
    return dataset.rstrip("/").rpartition("/")[2].rpartition(":")[2].replace("-", "_")


def section(c: ConfigDict, kind: str, name: str, **arguments: Any) -> ConfigDict:
    """The section of an evaluator of a dataset or a source, with what those of `c` share."""
    keys = ConfigDict({"type": kind, **arguments})
    if name:
        keys["source" if ":" in name else "dataset"] = name
    for key in ("batch_size", "preprocess", *(["language"] if kind == "zero_shot" else [])):
        if key in c:
            keys[key] = c.get_ref(key)
    return keys

"""Your own data: held-out pairs (`:pairs`) or folders of classes (`:classes`).

python -m clipa_jax.evaluate --config=configs/own/evaluation.py:pairs --checkpoint=W \\
    --out=results --config.evals.retrieval.source=tfds:data/pairs/1.0.0
python -m clipa_jax.evaluate --config=configs/own/evaluation.py:classes --checkpoint=W \\
    --out=results --config.evals.zero_shot.source=class_folders:my_classes

Class names are compared as they are: "a photo of a {}" only helps models whose captions are
sentences (`--config.evals.zero_shot.templates=photo`).
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from clipa_jax.config import recipes, schema


def get_config(variant="pairs"):
    recipes.check_variant(variant, "pairs", "classes")
    c = schema.evaluation()
    source = {"source": placeholder(str)}
    if variant == "pairs":
        section = {"type": "retrieval", "split": "validation", **source}
        c.evals.retrieval = ConfigDict(section)
    else:
        section = {"type": "zero_shot", "split": "all", "label": "label", "templates": "plain"}
        c.evals.zero_shot = ConfigDict(section | source)
    return c

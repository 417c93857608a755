"""The published schedule in miniature, on the bundled emoji artwork.

The same keys and code as the large models; only sizes differ. Held-out pictures are those
of a vendor that training never sees.
"""

from dataclasses import replace

from ml_collections import ConfigDict

from configs import common, recipes

DATA = "data/emoji/1.0.0"
TEMPLATES = ("{}", "a picture of {}", "an emoji of {}")

PRETRAIN = recipes.Stage(
    name="pretrain",
    res=32,
    text_len=8,
    batch_size=128,
    samples=128 * 4_500,
    lr_per_256=4e-3,
    warmup={"percent": 5.0},
)
FINETUNE_1 = replace(
    PRETRAIN,
    name="finetune_1",
    after="pretrain",
    res=48,
    text_len=12,
    mask=0.25,
    samples=128 * 600,
    lr_per_256=1.5e-3,
    warmup={"percent": 10.0},
)
FINETUNE_2 = replace(
    FINETUNE_1,
    name="finetune_2",
    after="finetune_1",
    res=64,
    text_len=16,
    mask=0.3,
    samples=128 * 600,
    lr_per_256=1e-3,
)
ROWS = {row.name: row for row in (PRETRAIN, FINETUNE_1, FINETUNE_2)}


def stage(row: recipes.Stage) -> ConfigDict:
    """A stage of the demo."""
    c = recipes.stage("mini/8", row)
    c.model.dtype = "float32"
    c.model.image.remat = c.model.text.remat = "none"
    c.model.text.vocab_size = 2_048
    c.model.text.pool = "gap"
    c.optim.b2 = 0.98
    c.optim.weight_decay = 0.1
    c.optim.grad_clip = 1.0
    c.input.source = f"tfds:{DATA}"
    c.input.vocab = "data/emoji/vocab.txt"
    c.eval_percent = 25.0
    c.evals = evals()
    return c


def evals() -> ConfigDict:
    """Zero-shot classification and retrieval on pictures that training never sees."""
    zero_shot = {
        "type": "zero_shot",
        "source": f"tfds:{DATA}",
        "split": "heldout_vendor",
        "label": "concept",
        "templates": TEMPLATES,
    }
    retrieval = {"type": "retrieval", "source": f"tfds:{DATA}", "split": "heldout_vendor"}
    return ConfigDict(
        {
            "zero_shot": {**zero_shot},
            "zero_shot_groups": {**zero_shot, "label": "group"},
            "zero_shot_pictures": {**zero_shot, "split": "heldout_pictures"},
            "retrieval": retrieval,
            "contrastive": {**retrieval, "type": "contrastive"},
        }
    )


def config(name: str, arg: str = "") -> ConfigDict:
    """A stage by name, or "schedule" for all of them."""
    if name == "schedule":
        return common.schedule({key: stage(row) for key, row in ROWS.items()})
    return stage(replace(ROWS[name], **recipes.arguments(arg)))

"""The published schedule in miniature, on the bundled emoji artwork.

The same keys and code as the large models; only sizes differ. Held-out pictures are those
of a vendor that training never sees.
"""

from dataclasses import replace

from ml_collections import ConfigDict

from clipa_jax.config import recipes, schema

DATA = "data/emoji/1.0.0"
# The captions are names, so a sentence around them only hurts: after pre-training, "{}" alone
# names 31.5 % of the held-out vendor's pictures, averaged with "a {}" and "the {}" 21.1 %.
TEMPLATES = "plain"

PRETRAIN = recipes.Stage(
    name="pretrain",
    res=16,
    text_len=8,
    batch_size=128,
    samples=128 * 4_600,
    lr_per_256=2e-3,
    warmup={"percent": 5.0},
)
# Text positions are stretched to the new length as in the published stages, which unlearns some
# of them; so the text grows in small steps.
FINETUNE_1 = replace(
    PRETRAIN,
    name="finetune_1",
    after="pretrain",
    res=40,
    text_len=10,
    mask=0.3,
    samples=128 * 1_500,
    lr_per_256=1.5e-3,
)
# A stage this short does not get used to many masks: evaluation, where all patches are seen,
# loses a point with 30 % of them masked.
FINETUNE_2 = replace(
    FINETUNE_1,
    name="finetune_2",
    after="finetune_1",
    res=48,
    text_len=12,
    mask=0.1,
    samples=128 * 350,
    lr_per_256=7e-4,
)
ROWS = {row.name: row for row in (PRETRAIN, FINETUNE_1, FINETUNE_2)}
# What `make demo-compare` trains for the same seconds: full length from the start.
FULL_LENGTH = replace(
    PRETRAIN, name="full_length", res=FINETUNE_2.res, text_len=FINETUNE_2.text_len
)
EVALUATIONS = {"pretrain": 4, "finetune_1": 3, "finetune_2": 2, "full_length": 8}  # per stage
# `:quick` is the same path in about a minute, most of which is compiling.
QUICK = 50  # the factor by which every stage is shortened
QUICK_DEPTH = 2  # layers of the image tower
QUICK_EVALS = ("zero_shot", "retrieval")


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
    c.input.cache = "encoded"
    c.input.vocab = "data/emoji/vocab.txt"
    c.cpu_devices = 2
    c.eval_percent = 100 / EVALUATIONS.get(row.name, 1)
    c.logs.compare = ("runs/demo-compare", "configs/demo/compare.json")
    c.evals = evals()
    return c


def evals() -> ConfigDict:
    """Zero-shot classification and retrieval on pictures that training never sees."""
    vendor = {"source": f"tfds:{DATA}", "split": "heldout_vendor"}
    pictures = {"source": f"tfds:{DATA}", "split": "heldout_pictures"}
    concepts = {"type": "zero_shot", "label": "concept", "templates": TEMPLATES}
    # Flags are easy: without them the score says more.
    by_group = {"by": "group", "without": ("flags",)}
    return ConfigDict(
        {
            "zero_shot": {**concepts, **vendor, **by_group},
            "zero_shot_groups": {**concepts, **vendor, "label": "group"},
            "zero_shot_pictures": {**concepts, **pictures},
            "retrieval": {"type": "retrieval", **vendor, "captions": (0,)},
            "contrastive": {"type": "contrastive", **vendor},
        }
    )


def config(name: str, arg: str = "") -> ConfigDict:
    """A stage by name, or "schedule" for all of them.

    Args:
      name: of a row, "schedule" or "full_length".
      arg: for the schedule "" or "quick"; else changes to the row, such as `res=48`.
    """
    if name == "full_length":
        return stage(replace(FULL_LENGTH, **recipes.arguments(arg)))
    if name != "schedule":
        return stage(replace(ROWS[name], **recipes.arguments(arg)))
    if arg not in ("", "quick"):
        raise ValueError(f"the demo schedule takes no argument or :quick, came {arg!r}")
    rows = list(ROWS.values())
    if arg == "quick":
        rows = [replace(row, samples=row.samples // QUICK) for row in rows]
    stages = {row.name: stage(row) for row in rows}
    if arg == "quick":
        for one in stages.values():
            one.eval_percent = one.checkpoint_percent = 100.0  # at the end alone
            one.evals = ConfigDict({name: one.evals[name] for name in QUICK_EVALS})
            one.model.image.depth = QUICK_DEPTH
    return schema.schedule(stages)

"""One point of the inverse scaling grid: the demo's data and towers, pre-trained and fine-tuned.

`tools/sweeps/inverse_scaling.sh` overrides size, tokens, reduction and seed. Every point sees as
many samples, and as in CLIPA (arXiv 2305.07017) all of them end with the same short stage at
full length, so that what is compared has looked at the same pictures and captions when it is
evaluated.
"""

from dataclasses import replace

from ml_collections import ConfigDict

from clipa_jax.config import recipes, schema
from configs.demo import recipe as demo

# 64 patches of 8 pixels; a row of 16 tokens holds 95 % of the captions.
PRETRAIN = recipes.Stage(
    name="pretrain",
    res=64,
    text_len=16,
    batch_size=32,  # after 16,000 samples 0.1 nats better than 64
    samples=24_000,
    lr_per_256=8e-3,
    warmup={"percent": 10.0},
)
FINETUNE = replace(PRETRAIN, name="finetune", after="pretrain", samples=2_400, lr_per_256=4e-3)
ROWS = {row.name: row for row in (PRETRAIN, FINETUNE)}


def stage(row: recipes.Stage) -> ConfigDict:
    """A stage, evaluated and saved at its end alone."""
    c = demo.stage(row)
    c.cpu_devices = 1  # points run side by side instead
    c.eval_percent = c.checkpoint_percent = 100.0
    c.checkpoint.keep_last = 1
    c.logs.tensorboard = False
    c.logs.compare = ()
    held_out = c.evals
    # Names are tried in their order; the sheet of held-out pictures takes the first zero-shot
    # evaluation, which is the smaller one.
    c.evals = ConfigDict(
        {
            "contrastive": held_out.contrastive,
            "pictures": held_out.zero_shot_pictures,
            "zero_shot": held_out.zero_shot,
        }
    )
    return c


def config(name: str, arg: str = "") -> ConfigDict:
    """A stage by name, or "schedule" for both; `arg` changes the row, such as `samples=64000`."""
    if name == "schedule":
        pretrain = replace(PRETRAIN, **recipes.arguments(arg))
        return schema.schedule({row.name: stage(row) for row in (pretrain, FINETUNE)})
    return stage(replace(ROWS[name], **recipes.arguments(arg)))

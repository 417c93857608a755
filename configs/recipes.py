"""The stages of every model, as rows; and how a row becomes a config.

Sources: CLIPA-v2 (arXiv 2306.15658) and CLIPA (arXiv 2305.07017), their released configs
and scripts. Steps, learning rate and warm-up follow from samples, batch and the rate per
256 when the run starts, so an override of the batch size moves them along.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from ml_collections import ConfigDict

from configs import common

EPOCH = 1_281_167  # the released code counts samples in epochs of ImageNet's size


@dataclass(frozen=True)
class Stage:
    """One row: what differs between the stages of a model."""

    name: str
    res: int  # pixels a side
    text_len: int  # text tokens
    batch_size: int
    samples: int
    lr_per_256: float
    after: str = ""
    reduction: str = "truncate"
    mask: float = 0.0
    warmup: dict[str, float] = field(default_factory=dict)  # unit -> amount
    remat_text: bool = False
    squash: bool = True  # evaluation: straight to a square; else short side and centre crop


PRETRAIN = Stage(
    name="pretrain",
    res=84,
    text_len=8,
    batch_size=65_536,
    samples=10_000 * EPOCH,
    lr_per_256=8e-6,
    reduction="syntax",
    warmup={"steps": 3_200},
    squash=False,
)
FINETUNE_224 = Stage(
    name="finetune_224",
    after="pretrain",
    res=224,
    text_len=32,
    batch_size=32_768,
    samples=524_288_000,
    lr_per_256=4e-7,
    mask=0.3,
    warmup={"examples": 26_214_400},
    remat_text=True,
)
FINETUNE_336 = replace(
    FINETUNE_224,
    name="finetune_336",
    after="finetune_224",
    res=336,
    batch_size=16_384,
    samples=131_072_000,
    lr_per_256=1e-7,
    mask=0.4,
)

V2 = {
    "H/14": (PRETRAIN, FINETUNE_224, FINETUNE_336),
}

JITTER = "jitter(0.4, p=0.8, gray=0.2)"
TRAIN = (
    "decode|inception_crop({res}, area_min=40)|" + JITTER + "|choose_caption"
    "|tokenize({text_len}, vocab={vocab!r}, reduction={reduction!r})"
)
EVAL_SQUASH = "decode|resize({res})"
EVAL_CROP = "decode|resize_small({res})|central_crop({res})"


def stage(size: str, row: Stage) -> ConfigDict:
    """The config of one stage of a published model."""
    c = common.default()
    c.name = row.name
    c.after = row.after
    c.surgery = ("image_positions", "text_positions") if row.after else ()
    c.total_examples = row.samples
    for unit, amount in (row.warmup or {"steps": 0}).items():
        c[f"warmup_{unit}"] = amount
    c.model.size = size
    c.model.dtype = "bfloat16"
    c.model.image.remat = "full"
    c.model.text.remat = "full" if row.remat_text else "none"
    c.mask.ratio = row.mask
    c.input.batch_size = row.batch_size
    c.input.res = row.res
    c.input.text_len = row.text_len
    c.input.reduction = row.reduction
    c.input.preprocess = TRAIN
    c.input.preprocess_eval = EVAL_SQUASH if row.squash else EVAL_CROP
    c.optim.lr_per_256 = row.lr_per_256
    return c


def v2(size: str, name: str, arg: str = "") -> ConfigDict:
    """A stage of CLIPA-v2 by name, or all of them with name "schedule".

    Args:
      size: model size and patch, as in the table `V2`.
      name: of the stage, or "schedule".
      arg: changes to the row, e.g. `res=70`, from `--config=FILE.py:res=70`.
    """
    rows = {row.name: row for row in V2[size]}
    if name == "schedule":
        return common.schedule({key: stage(size, row) for key, row in rows.items()})
    return stage(size, replace(rows[name], **arguments(arg)))


def arguments(arg: str) -> dict[str, Any]:
    """`res=70,mask=0.3` -> changes to a row.

    Raises:
      ValueError: something that is not a number of a row, naming the legal ones.
    """
    legal = {"res": int, "text_len": int, "batch_size": int, "samples": int, "mask": float}
    changes = {}
    for part in filter(None, arg.split(",")):
        key, _, value = part.partition("=")
        if key not in legal:
            raise ValueError(f"unknown argument {key!r} of the config; legal: {', '.join(legal)}")
        changes[key] = legal[key](value)
    return changes

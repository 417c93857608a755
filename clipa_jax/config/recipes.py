"""The stages of every published model, as rows; and how a row becomes a config.

Sources: CLIPA-v2 (arXiv 2306.15658) and CLIPA (arXiv 2305.07017), their released configs
and scripts. Steps, learning rate and warm-up follow from samples, batch and the rate per
256 when the run starts, so an override of the batch size moves them along.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from ml_collections import ConfigDict

from clipa_jax.config import schema

IMAGENET = 1_281_167  # CLIPA-v2 counts its samples in epochs of ImageNet's size
LAION_400M = 407_332_084  # CLIPA-v1's epoch: the size that open_clip and CLIPA's data.py note


@dataclass(frozen=True)
class Fit:
    """How a stage lies in memory: what it needs changes with this, its results do not.

    docs/plans.md has what the TPU compiler says of those below at the released batches, and
    tools/plan.py finds others.
    """

    preset: str = "dp"  # of the parameters
    replica: int = 1  # copies of them, -1 for what fsdp leaves
    fsdp: int = -1  # chips that share one
    layers: str = "unrolled"
    remat: str = "full"  # of the image tower
    remat_text: str = "none"
    microbatch: int | None = None


@dataclass(frozen=True)
class Stage:
    """One row: what differs between the stages of the models."""

    name: str
    res: int  # pixels a side
    text_len: int  # text tokens
    batch_size: int
    samples: int
    lr_per_256: float
    after: str = ""
    reduction: str = "truncate"
    mask: float = 0.0
    jitter: float = 0.4  # strength of the colour jitter and grayscale; 0 for none
    warmup: dict[str, float] = field(default_factory=dict)  # unit -> amount
    pool: str = "gap"
    mu_dtype: str = "bfloat16"
    decay: str = "kernels"
    fit: Fit = Fit()
    squash: bool = True  # evaluation: straight to a square; else short side and centre crop


PRETRAIN = Stage(
    name="pretrain",
    res=84,
    text_len=8,
    batch_size=65_536,
    samples=10_000 * IMAGENET,
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
# All patches, a quarter of the samples, twice the rate and no colour jitter: the released
# unmask_tuning.py.
FINETUNE_SHORT = replace(
    FINETUNE_224, batch_size=16_384, samples=131_072_000, lr_per_256=8e-7, mask=0.0, jitter=0.0
)
V2 = (PRETRAIN, FINETUNE_224, FINETUNE_336)

# H/14 on 64 chips of 16 GB: recomputing all layers is enough, and cheaper than micro-batches.
FULL = Fit(preset="fsdp", layers="scanned", remat_text="full")
V2_H = tuple(replace(row, fit=FULL) for row in V2)

# L/14 on 16 such chips, each with four times as many samples: micro-batches, so small that
# of their layers only the attention is computed again, and too small to split the parameters.
MICRO = Fit(layers="scanned", remat="dots_no_batch", remat_text="dots_no_batch")
V2_L = tuple(
    replace(row, fit=replace(MICRO, microbatch=n))
    for row, n in zip(V2, (4_096, 1_024, 512), strict=True)
)

# The t5x branch, which trained G/14: half the rate, more parameters decay, and 2.5 billion
# of them with their moments are split over the devices; its widths of 1,664 do not divide by
# more than 128. Its config file says 70 px where the published G/14 was trained at 84; `:res=70`
# gives the former.
V2_G = tuple(
    replace(row, decay="all_but_small", fit=replace(FULL, replica=-1, fsdp=64))
    for row in (
        replace(PRETRAIN, lr_per_256=4e-6),
        replace(FINETUNE_224, batch_size=16_384, mask=0.4, warmup={"steps": 0}),
        FINETUNE_336,
    )
)

# CLIPA-v1 in JAX: seven epochs at 64, 112 or 160 px.
V1 = (
    Stage(
        name="pretrain",
        res=112,
        text_len=32,
        batch_size=32_768,
        samples=7 * LAION_400M,
        lr_per_256=8e-6,
        jitter=0.0,
        warmup={"steps": 1_600},
        pool="tok",
        mu_dtype="float32",
        squash=False,
    ),
    Stage(
        name="finetune_224",
        after="pretrain",
        res=224,
        text_len=32,
        batch_size=32_768,
        samples=4_000 * 32_768,
        lr_per_256=8e-7,
        jitter=0.0,
        warmup={"steps": 800},
        pool="tok",
        mu_dtype="float32",
        squash=False,
    ),
)

# CLIPA-v1 on eight A100s: six epochs, named by their image and text tokens.
# differs from CLIPA: these were trained with CLIP's byte pairs, here they take BERT's pieces
# like the rest; and their image positions became learned in fine-tuning, here they stay fixed.
I50_T16 = (
    replace(V1[0], text_len=16, batch_size=65_536, samples=6 * LAION_400M, warmup={"steps": 782}),
    replace(V1[1], text_len=16, batch_size=8_192, samples=131_072_000, warmup={"steps": 3_072}),
)
I17_T16 = (
    replace(
        V1[0],
        res=64,
        text_len=16,
        samples=6 * LAION_400M,
        reduction="syntax",
        jitter=0.4,
        warmup={"steps": 1_563},
        pool="gap",
    ),
    replace(
        V1[1],
        text_len=16,
        batch_size=7_168,
        samples=131_072_000,
        jitter=0.4,
        warmup={"steps": 3_571},
        pool="gap",
    ),
)
I37_T8 = (replace(I17_T16[0], res=96, text_len=8), replace(I17_T16[1], text_len=32))

# Model size -> variant -> rows in order; the first variant is the default.
TABLE: dict[str, dict[str, tuple[Stage, ...]]] = {
    "S/16": {"": V1},
    "B/16": {"": V1, "i50_t16": I50_T16},
    "L/14": {"": V2_L},
    "L/16": {"i17_t16": I17_T16, "i37_t8": I37_T8},
    "H/14": {"": V2_H, "short": (V2_H[0], replace(FINETUNE_SHORT, fit=FULL))},
    "G/14": {"": V2_G},
}

JITTER = "jitter({strength}, p=0.8, gray=0.2)|"
TRAIN = (
    "decode|inception_crop({{res}}, area_min=40)|{jitter}choose_caption"
    "|tokenize({{text_len}}, vocab={{vocab!r}}, reduction={{reduction!r}})|hash_caption"
)
EVAL_SQUASH = "decode|resize({res})"
EVAL_CROP = "decode|resize_small({res})|central_crop({res})"


def stage(size: str, row: Stage) -> ConfigDict:
    """The config of one stage of a model of a size such as `H/14`."""
    c = schema.default()
    c.name = row.name
    c.after = row.after
    c.surgery = ("image_positions", "text_positions") if row.after else ()
    c.total_examples = row.samples
    for unit, amount in (row.warmup or {"steps": 0}).items():
        c[f"warmup_{unit}"] = amount
    c.model.size = size
    c.model.dtype = "bfloat16"
    c.model.image.pool = row.pool
    c.model.layers = row.fit.layers
    c.model.image.remat = row.fit.remat
    c.model.text.remat = row.fit.remat_text
    c.microbatch = row.fit.microbatch
    c.mask.ratio = row.mask
    c.mesh.replica, c.mesh.fsdp = row.fit.replica, row.fit.fsdp
    c.sharding.preset = row.fit.preset
    c.input.batch_size = row.batch_size
    c.input.res = row.res
    c.input.text_len = row.text_len
    c.input.reduction = row.reduction
    jitter = JITTER.format(strength=row.jitter) if row.jitter else ""
    c.input.preprocess = TRAIN.format(jitter=jitter)
    c.input.preprocess_eval = EVAL_SQUASH if row.squash else EVAL_CROP
    c.optim.lr_per_256 = row.lr_per_256
    c.optim.mu_dtype = row.mu_dtype
    c.optim.decay = row.decay
    return c


def config(size: str, name: str, arg: str = "") -> ConfigDict:
    """A stage of a published model by name, or all of them with name "schedule".

    Args:
      size: model size and patch, as in `TABLE`.
      name: of the stage, or "schedule".
      arg: from `--config=FILE.py:ARG`, parts joined by commas: a variant in `TABLE`, and
        changes to the row such as `res=70`; those of a schedule go to its first stage.

    Raises:
      ValueError: an unknown part, or a variant without such a stage.
    """
    variants = TABLE[size]
    parts = arg.split(",")
    chosen = [part for part in parts if part in variants and part]
    if len(chosen) > 1:
        raise ValueError(f"{' and '.join(chosen)} are two variants of {size}; name one")
    rows = variants[chosen[0] if chosen else next(iter(variants))]
    rest = ",".join(part for part in parts if part not in variants)
    changes = arguments(rest, variants)
    if name == "schedule":
        rows = (replace(rows[0], **changes), *rows[1:])
        return schema.schedule({row.name: stage(size, row) for row in rows})
    for row in rows:
        if row.name == name:
            return stage(size, replace(row, **changes))
    raise ValueError(f"{size}:{arg} has no stage {name}, only {', '.join(r.name for r in rows)}")


def arguments(arg: str, variants: Iterable[str] = ()) -> dict[str, Any]:
    """`res=70,mask=0.3` -> changes to a row.

    Args:
      arg: parts joined by commas.
      variants: further legal parts, for the error message.

    Raises:
      ValueError: something that is not a number of a row, naming the legal ones.
    """
    legal = {"res": int, "text_len": int, "batch_size": int, "samples": int, "mask": float}
    changes = {}
    for part in filter(None, arg.split(",")):
        key, _, value = part.partition("=")
        if key not in legal:
            names = ", ".join([*(f"{name}=" for name in legal), *filter(None, variants)])
            raise ValueError(f"unknown argument {part!r} of the config; legal: {names}")
        try:
            changes[key] = legal[key](value)
        except ValueError:
            raise ValueError(f"argument {part!r} of the config: expected a number") from None
    return changes

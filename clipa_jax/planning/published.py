"""The GPU hours that CLIPA-v2 published, and how far one efficiency constant is from them.

The hours of a row are those of all the stages that it names: the rows with a third stage
exceed those without by that stage alone. They are A100-80GB hours (arXiv 2306.15658, table of
costs); how they were measured is not said.
"""

from dataclasses import dataclass

import numpy as np

from clipa_jax.planning import chips

CHIP = "a100-80gb"


@dataclass(frozen=True)
class Row:
    """One published schedule.

    Attributes:
      size: of the model, as in the configs.
      stages: names of the stages it trained.
      argument: of the config file, such as `res=70`.
      hours: of one A100-80GB.
    """

    size: str
    stages: tuple[str, ...]
    hours: float
    argument: str = ""


_TWO, _THREE = ("pretrain", "finetune_224"), ("pretrain", "finetune_224", "finetune_336")
ROWS = (
    Row("L/14", _TWO, 4_008),
    Row("L/14", _THREE, 4_520),
    Row("H/14", _TWO, 5_920, "res=70"),
    Row("H/14", _TWO, 7_776),
    Row("H/14", _THREE, 8_640),
    Row("G/14", _TWO, 21_998),
    Row("G/14", _THREE, 23_742),
)

# Model FLOPs (nothing recomputed) over the peak of the chip: fitted to `ROWS`, whose geometric
# mean it reproduces. `python tools/plan.py --published` prints what it leaves over.
EFFICIENCY = 0.258


def fit(model_flops: list[float]) -> float:
    """The constant whose residuals have a geometric mean of nothing.

    Args:
      model_flops: of whole schedules, in the order of `ROWS`.
    """
    shares = [
        flops / (row.hours * 3600 * chips.chip(CHIP).peak)
        for row, flops in zip(ROWS, model_flops, strict=True)
    ]
    return float(np.exp(np.mean(np.log(shares))))


def hours(model_flops: float, efficiency: float = EFFICIENCY) -> float:
    """A100-80GB hours at an efficiency."""
    return model_flops / (chips.chip(CHIP).peak * efficiency) / 3600

"""GPU hours published by CLIPA-v2, compared with one efficiency constant.

The hours of a row are those of all the stages that it names: the rows with a third stage
exceed those without by that stage alone. They are A100-80GB hours (arXiv 2306.15658, table of
costs); how they were measured is not said.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from clipa_jax.config import recipes, schedules
from clipa_jax.planning import chips, workload
from clipa_jax.runtime.format import table

CHIP = "a100-80gb"


@dataclass(frozen=True)
class Row:
    """One published schedule.

    Attributes:
      size: of the model, as in the configs.
      stages: names of the stages it trained.
      hours: of one A100-80GB.
      pretrain_res: pixels a side in pre-training, where they are not the recipe's.
    """

    size: str
    stages: tuple[str, ...]
    hours: float
    pretrain_res: int | None = None

    @property
    def name(self) -> str:
        """The size, and the pixels if they are not the recipe's."""
        return f"{self.size} res={self.pretrain_res}" if self.pretrain_res else self.size

    def configs(self) -> list[ConfigDict]:
        """The configs of its stages."""
        c = recipes.load(f"model_{self.size[0].lower()}/schedule")
        if self.pretrain_res:
            c.pretrain.input.res = self.pretrain_res
        return [stage for stage in schedules.split(c) if stage.name in self.stages]


_TWO, _THREE = ("pretrain", "finetune_224"), ("pretrain", "finetune_224", "finetune_336")
ROWS = (
    Row("L/14", _TWO, 4_008),
    Row("L/14", _THREE, 4_520),
    Row("H/14", _TWO, 5_920, pretrain_res=70),
    Row("H/14", _TWO, 7_776),
    Row("H/14", _THREE, 8_640),
    Row("G/14", _TWO, 21_998),
    Row("G/14", _THREE, 23_742),
)

# Model FLOPs (nothing recomputed) over the peak of the chip: the geometric mean of `ROWS`.
# `python tools/plan.py --published` prints the residuals.
EFFICIENCY = 0.262


@dataclass(frozen=True)
class Residual:
    """A published row beside the estimate.

    Attributes:
      model_flops: of all the stages of the row.
      hours: at `EFFICIENCY`.
    """

    row: Row
    model_flops: float
    hours: float

    @property
    def off(self) -> float:
        """Relative difference from the published hours."""
        return self.hours / self.row.hours - 1


def compare() -> list[Residual]:
    """All published rows beside the planner's hours."""
    residuals = []
    for row in ROWS:
        total = sum(workload.read(stage).total_flops for stage in row.configs())
        residuals.append(Residual(row, total, hours(total)))
    return residuals


def hours(model_flops: float, efficiency: float = EFFICIENCY) -> float:
    """A100-80GB hours at an efficiency."""
    return model_flops / (chips.chip(CHIP).peak * efficiency) / 3600


def fit(residuals: list[Residual]) -> float:
    """The efficiency at which the logarithms of the residuals have a mean of 0."""
    peak = chips.chip(CHIP).peak
    shares = [residual.model_flops / (residual.row.hours * 3600 * peak) for residual in residuals]
    return float(np.exp(np.mean(np.log(shares))))


def text(residuals: list[Residual]) -> str:
    """The comparison as a table."""
    heading = ("model", "stages", "model EFLOPs", "published h", "estimated h", "difference")
    rows: list[tuple[str, ...]] = [heading]
    rows += [
        (
            residual.row.name,
            " + ".join(residual.row.stages),
            f"{residual.model_flops / 1e18:,.0f}",
            f"{residual.row.hours:,.0f}",
            f"{residual.hours:,.0f}",
            f"{residual.off:+.1%}",
        )
        for residual in residuals
    ]
    return (
        f"A100-80GB hours, published (arXiv 2306.15658) and at {EFFICIENCY:.1%} of the chip's "
        f"peak\n(one constant, fitted to these rows: {fit(residuals):.2%})\n\n"
        + table(rows, right=(2, 3, 4, 5))
    )


def as_dict(residuals: list[Residual]) -> dict[str, Any]:
    """The comparison as JSON."""
    rows = [
        {
            "size": residual.row.size,
            "pretrain_res": residual.row.pretrain_res,
            "stages": list(residual.row.stages),
            "model_flops": residual.model_flops,
            "published_hours": residual.row.hours,
            "hours": residual.hours,
            "off": residual.off,
        }
        for residual in residuals
    ]
    return {"efficiency": EFFICIENCY, "fitted": fit(residuals), "rows": rows}

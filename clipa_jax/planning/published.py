"""GPU hours published by CLIPA-v2, compared with one efficiency constant.

The hours of a row are those of all the stages that it names: the rows with a third stage
exceed those without by that stage alone. They are A100-80GB hours (arXiv 2306.15658, table of
costs); how they were measured is not said.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from clipa_jax.config import recipes, schedules
from clipa_jax.planning import chips, workload
from clipa_jax.runtime.format import table

PEAK = chips.chip("a100-80gb").peak


@dataclass(frozen=True)
class Row:
    """One published schedule: hours of one A100-80GB for all of its stages.

    `pretrain_res` is the pixels a side in pre-training, where they are not the recipe's.
    """

    size: str
    stages: tuple[str, ...]
    published_hours: float
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
    """A published row beside the estimate from the model FLOPs of all its stages."""

    row: Row
    model_flops: float

    @property
    def hours(self) -> float:
        """A100-80GB hours at `EFFICIENCY`."""
        return self.model_flops / (PEAK * EFFICIENCY) / 3600

    @property
    def off(self) -> float:
        """Relative difference from the published hours."""
        return self.hours / self.row.published_hours - 1


def compare() -> list[Residual]:
    """All published rows beside the planner's hours."""
    return [
        Residual(row, sum(workload.read(stage).total_flops for stage in row.configs()))
        for row in ROWS
    ]


def fit(residuals: list[Residual]) -> float:
    """The efficiency at which the logarithms of the residuals have a mean of 0."""
    shares = [r.model_flops / (r.row.published_hours * 3600 * PEAK) for r in residuals]
    return float(np.exp(np.mean(np.log(shares))))


def text(residuals: list[Residual]) -> str:
    """The comparison as a table."""
    rows = [("model", "stages", "model EFLOPs", "published h", "estimated h", "difference")]
    rows += [
        (
            residual.row.name,
            " + ".join(residual.row.stages),
            f"{residual.model_flops / 1e18:,.0f}",
            f"{residual.row.published_hours:,.0f}",
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
        asdict(r.row) | {"model_flops": r.model_flops, "hours": r.hours, "off": r.off}
        for r in residuals
    ]
    return {"efficiency": EFFICIENCY, "fitted": fit(residuals), "rows": rows}

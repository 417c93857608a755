"""The plan in the two forms that it is read in: a table, and JSON."""

from dataclasses import dataclass
from typing import Any

from clipa_jax.planning import analytic, chips, cost, search
from clipa_jax.planning.compiled import Compiled
from clipa_jax.planning.work import Work
from clipa_jax.terminal import table

GIB, TERA = 2**30, 1e12


@dataclass(frozen=True)
class Stage:
    """What is known of one stage.

    Attributes:
      compiled: None in analytic mode.
      estimate: None where the compiler was asked.
      nearest: where the batch does not fit, the largest below it that does.
      nearest_batch: its size; 0 if none was looked for or found.
    """

    work: Work
    chip: chips.Chip
    num_chips: int
    price: cost.Price
    compiled: Compiled | None = None
    estimate: analytic.Estimate | None = None
    nearest: Compiled | None = None
    nearest_batch: int = 0

    @property
    def step(self) -> cost.Step | None:
        if self.compiled is None or self.compiled.counts is None:
            return None
        return cost.roofline(self.compiled.counts, self.chip)

    @property
    def step_seconds(self) -> float | None:
        if self.estimate is not None:
            return self.estimate.step_seconds
        return self.step.seconds if self.step else None

    @property
    def flops_ratio(self) -> float | None:
        """Compiled FLOPs over the model's own."""
        if self.compiled is None or self.compiled.counts is None:
            return None
        return self.compiled.counts.flops * self.num_chips / self.work.step_flops

    @property
    def mfu(self) -> float | None:
        """The model's own FLOPs over what the chips could do in a step."""
        if self.step_seconds is None:
            return None
        return self.work.step_flops / (self.step_seconds * self.num_chips * self.chip.peak)

    @property
    def chip_hours(self) -> float | None:
        if self.step_seconds is None:
            return None
        return cost.hours(self.work.plan.total_steps, self.step_seconds, self.num_chips)

    @property
    def dollars(self) -> float | None:
        if self.chip_hours is None or self.price.dollars is None:
            return None
        return self.chip_hours * self.price.dollars

    def verdict(self) -> str | None:
        """The sentence for a stage that does not fit; None for one that does."""
        if self.compiled is None or self.compiled.fits:
            return None
        memory, batch = self.compiled.memory, self.work.plan.batch_size
        sentence = (
            f"{self.work.name} does not fit: a chip needs {_gib(memory.total)}, of which it has "
            f"{_gib(memory.limit)}, so {_gib(memory.excess)} too much at batch {batch:,} "
            f"({batch // self.num_chips:,} a chip; {search.describe(self.work.config)})"
        )
        if self.nearest_batch and self.nearest is not None:
            sentence += (
                f"; nearest that fits: batch {self.nearest_batch:,} "
                f"({self.nearest_batch // self.num_chips:,} a chip), "
                f"{_gib(self.nearest.memory.total)}"
            )
        return sentence


def text(stages: list[Stage], title: str) -> str:
    """The plan as a table: a column for each stage, and one for all of them."""
    columns = [_column(stage) for stage in stages]
    labels = list(columns[0])
    total = _total(stages)
    rows: list[tuple[str, ...]] = [("", *(stage.work.name for stage in stages), "schedule")]
    for label in labels:
        rows.append((label, *(column[label] for column in columns), total.get(label, "")))
    lines = [title, "", table(rows, right=tuple(range(1, len(rows[0]))))]
    lines += [f"\n{stage.verdict()}" for stage in stages if stage.verdict()]
    return "\n".join(lines)


def _column(stage: Stage) -> dict[str, str]:
    work, forward = stage.work, stage.work.forward
    shown = {
        "parameters": f"{work.num_params / 1e6:,.0f} M",
        "samples": f"{work.plan.total_examples:,}",
        "batch": f"{work.plan.batch_size:,}",
        "  a chip": f"{work.plan.batch_size // stage.num_chips:,}",
        "steps": f"{work.plan.total_steps:,}",
        "tokens of an image": f"{work.image_tokens:,}",
        "tokens of a caption": f"{work.text_tokens:,}",
        "settings": search.describe(work.config),
        "model GFLOPs a sample": f"{forward.training / 1e9:,.1f}",
        "model TFLOPs a step and chip": _tera(work.step_flops / stage.num_chips),
    }
    shown |= _compiled(stage) if stage.compiled else _estimated(stage)
    shown["  implied MFU"] = _percent(stage.mfu)
    shown["chip-hours"] = _number(stage.chip_hours)
    shown["cost"] = _dollars(stage.dollars)
    return shown


def _compiled(stage: Stage) -> dict[str, str]:
    assert stage.compiled is not None
    memory, counts, step = stage.compiled.memory, stage.compiled.counts, stage.step
    ratio = stage.flops_ratio
    received = None if counts is None else sum(counts.collectives.values())
    return {
        "compiled TFLOPs": "-" if counts is None else _tera(counts.flops),
        "  over the model's": "-" if ratio is None else f"{ratio:.2f}",
        "memory of a chip": _gib(memory.total),
        "  arguments": _gib(memory.arguments),
        "  temporaries": _gib(memory.temporaries),
        "  limit": _gib(memory.limit),
        "  fits": "yes" if stage.compiled.fits else f"no: {_gib(memory.excess)} too much",
        "received from other chips": "-" if received is None else f"{received / 1e9:,.1f} GB",
        "step, at least": "-" if step is None else _seconds(step.seconds),
        "  bound by": "-" if step is None else step.bound,
        "  compute": "-" if step is None else _seconds(step.compute),
        "  interconnect": "-" if step is None else _seconds(step.interconnect),
        "compiled in": f"{stage.compiled.seconds:,.0f} s",
    }


def _estimated(stage: Stage) -> dict[str, str]:
    assert stage.estimate is not None
    memory = stage.estimate.memory
    return {
        "memory of a chip, estimate": _gib(memory.total),
        "  state and gradient": _gib(memory.state),
        "  activations": _gib(memory.activations),
        "  a layer at work": _gib(memory.layer),
        "  logits": _gib(memory.loss),
        "  the chip has": _gib(stage.chip.memory),
        "step": _seconds(stage.estimate.step_seconds),
    }


def _total(stages: list[Stage]) -> dict[str, str]:
    hours = [stage.chip_hours for stage in stages]
    dollars = [stage.dollars for stage in stages]
    return {
        "samples": f"{sum(stage.work.plan.total_examples for stage in stages):,}",
        "steps": f"{sum(stage.work.plan.total_steps for stage in stages):,}",
        "chip-hours": _number(_sum(hours)),
        "cost": _dollars(_sum(dollars)),
    }


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def as_dict(stage: Stage) -> dict[str, Any]:
    """The same, for machines: bytes, FLOPs, seconds, dollars."""
    work = stage.work
    shown: dict[str, Any] = {
        "stage": work.name,
        "steps": work.plan.total_steps,
        "batch": work.plan.batch_size,
        "image_tokens": work.image_tokens,
        "text_tokens": work.text_tokens,
        "num_params": work.num_params,
        "settings": search.describe(work.config),
        "model_flops_per_sample": work.forward.training,
        "model_flops_per_step": work.step_flops,
        "step_seconds": stage.step_seconds,
        "mfu": stage.mfu,
        "chip_hours": stage.chip_hours,
        "dollars": stage.dollars,
    }
    if stage.compiled is not None:
        memory, counts = stage.compiled.memory, stage.compiled.counts
        shown |= {
            "fits": stage.compiled.fits,
            "memory": {
                "arguments": memory.arguments,
                "temporaries": memory.temporaries,
                "limit": memory.limit,
            },
            "compiled_flops_per_chip": counts and counts.flops,
            "compiled_over_model_flops": stage.flops_ratio,
            "collective_bytes_per_chip": counts and counts.collectives,
            "compile_seconds": round(stage.compiled.seconds, 1),
            "nearest_batch": stage.nearest_batch or None,
        }
    if stage.estimate is not None:
        memory = stage.estimate.memory
        shown["estimated_memory"] = {
            "state": memory.state,
            "activations": memory.activations,
            "layer": memory.layer,
            "loss": memory.loss,
            "chip": stage.chip.memory,
        }
    return shown


def _gib(amount: float) -> str:
    return f"{amount / GIB:,.2f} GiB"


def _tera(amount: float) -> str:
    return f"{amount / TERA:,.1f}"


def _seconds(amount: float) -> str:
    return f"{amount * 1e3:,.0f} ms" if amount < 10 else f"{amount:,.1f} s"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _dollars(value: float | None) -> str:
    return "-" if value is None else f"${value:,.0f}"

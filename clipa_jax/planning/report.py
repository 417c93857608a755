"""The plan of a schedule as a table and as JSON."""

from dataclasses import asdict, dataclass
from typing import Any

from clipa_jax.planning import analytic, chips, cost, search
from clipa_jax.planning.compiled import Compiled
from clipa_jax.planning.workload import Workload
from clipa_jax.runtime.format import memory as memory_text
from clipa_jax.runtime.format import percent, short, significant, table


@dataclass(frozen=True)
class PlannedStage:
    """One stage of a plan, either compiled or estimated.

    Attributes:
      nearest: the largest smaller batch that fits, for a stage that does not.
      nearest_batch: its size; 0 without a search or a result.
    """

    work: Workload
    chip: chips.Chip
    num_chips: int
    price: cost.Price
    compiled: Compiled | None = None
    estimate: analytic.Estimate | None = None
    nearest: Compiled | None = None
    nearest_batch: int = 0

    @property
    def step(self) -> cost.StepTime | None:
        return cost.roofline(self.compiled, self.chip) if self.compiled else None

    @property
    def step_seconds(self) -> float | None:
        if self.estimate is not None:
            return self.estimate.step_seconds
        return self.step.seconds if self.step else None

    @property
    def flops_ratio(self) -> float | None:
        """FLOPs of the step, recomputation included, over the model's own."""
        if self.compiled is None:
            return None
        return self.compiled.flops * self.num_chips / self.work.step_flops

    @property
    def expected_seconds(self) -> float | None:
        """Seconds of a step by the compiler's estimate."""
        return self.step.expected if self.step else None

    def mfu(self, seconds: float | None) -> float | None:
        """Model FLOPs utilization: the model's own FLOPs over the chips' peak in `seconds`."""
        if seconds is None:
            return None
        return self.work.step_flops / (seconds * self.num_chips * self.chip.peak)

    def chip_hours(self, seconds: float | None) -> float | None:
        """Chip-hours of the stage with steps of `seconds`."""
        if seconds is None:
            return None
        return cost.hours(self.work.durations.total_steps, seconds, self.num_chips)

    def dollars(self, seconds: float | None) -> float | None:
        """Price of the stage with steps of `seconds`."""
        hours = self.chip_hours(seconds)
        if hours is None or self.price.dollars is None:
            return None
        return hours * self.price.dollars

    def verdict(self) -> str | None:
        """The sentence for a stage that does not fit into memory; None for one that does."""
        if self.compiled is None or self.compiled.fits:
            return None
        memory, batch = self.compiled.memory, self.work.durations.batch_size
        sentence = (
            f"{self.work.name} does not fit: a chip needs {memory_text(memory.total)} and has "
            f"{memory_text(memory.limit)}, {memory_text(memory.excess)} too little, at batch "
            f"{batch:,} "
            f"({batch // self.num_chips:,} a chip; {search.describe(self.work.config)})"
        )
        if self.nearest_batch and self.nearest is not None:
            sentence += (
                f"; nearest that fits: batch {self.nearest_batch:,} "
                f"({self.nearest_batch // self.num_chips:,} a chip), "
                f"{memory_text(self.nearest.memory.total)}"
            )
        return sentence


def text(stages: list[PlannedStage], title: str) -> str:
    """The plan as a table with a column for each stage and one for the schedule."""
    columns = [_column(stage) for stage in stages]
    labels = list(columns[0])
    total = _total(stages)
    rows: list[tuple[str, ...]] = [("", *(stage.work.name for stage in stages), "schedule")]
    for label in labels:
        rows.append((label, *(column[label] for column in columns), total.get(label, "")))
    lines = [title, "", table(rows, right=tuple(range(1, len(rows[0]))))]
    lines += [f"\n{stage.verdict()}" for stage in stages if stage.verdict()]
    return "\n".join(lines)


def _column(stage: PlannedStage) -> dict[str, str]:
    work, forward = stage.work, stage.work.forward
    rows = {
        "parameters": short(work.num_params),
        "samples": f"{work.durations.total_examples:,}",
        "batch": f"{work.durations.batch_size:,}",
        "  a chip": f"{work.durations.batch_size // stage.num_chips:,}",
        "steps": f"{work.durations.total_steps:,}",
        "tokens of an image": f"{work.image_tokens:,}",
        "tokens of a caption": f"{work.text_tokens:,}",
        "settings": search.describe(work.config),
        "model FLOPs of a sample": short(forward.training),
        "model FLOPs of a step and chip": short(work.step_flops / stage.num_chips),
    }
    if stage.compiled is None:
        return rows | _estimated(stage) | _paid(stage, "", stage.step_seconds)
    rows |= _compiled(stage) | _paid(stage, ", at least", stage.step_seconds)
    rows["compiler expects a step of"] = _seconds(stage.expected_seconds)
    return rows | _paid(stage, ", expected", stage.expected_seconds)


def _paid(stage: PlannedStage, which: str, seconds: float | None) -> dict[str, str]:
    return {
        f"  MFU{which.replace('at least', 'at most')}": percent(stage.mfu(seconds), none="-"),
        f"  chip-hours{which}": significant(stage.chip_hours(seconds)),
        f"  cost{which}": _dollars(stage.dollars(seconds)),
    }


def _compiled(stage: PlannedStage) -> dict[str, str]:
    assert stage.compiled is not None
    memory, counts, step = stage.compiled.memory, stage.compiled.counts, stage.step
    ratio = stage.flops_ratio
    received = None if counts is None else sum(counts.collectives.values())
    return {
        "computed FLOPs": short(stage.compiled.flops),
        "  over the model's": "-" if ratio is None else f"{ratio:.2f}",
        "memory of a chip": memory_text(memory.total),
        "  arguments": memory_text(memory.arguments),
        "  temporaries": memory_text(memory.temporaries),
        "  limit": memory_text(memory.limit),
        "  fits": "yes" if stage.compiled.fits else f"no: {memory_text(memory.excess)} too much",
        "received from other chips": short(received, "B"),
        "compiled in": f"{stage.compiled.seconds:,.0f} s",
        "roofline step": _seconds(stage.step_seconds),
        "  compute": _seconds(step.compute if step else None),
        "  interconnect": _seconds(step.interconnect if step else None),
    }


def _estimated(stage: PlannedStage) -> dict[str, str]:
    assert stage.estimate is not None
    memory = stage.estimate.memory
    return {
        "memory of a chip, estimate": memory_text(memory.total),
        "  state and gradient": memory_text(memory.state),
        "  activations": memory_text(memory.activations),
        "  one layer": memory_text(memory.layer),
        "  logits": memory_text(memory.loss),
        "  the chip has": memory_text(stage.chip.memory),
        "step": _seconds(stage.estimate.step_seconds),
    }


def _total(stages: list[PlannedStage]) -> dict[str, str]:
    rows = {
        "samples": f"{sum(stage.work.durations.total_examples for stage in stages):,}",
        "steps": f"{sum(stage.work.durations.total_steps for stage in stages):,}",
    }
    at_least = "" if stages[0].compiled is None else ", at least"
    for which, seconds in (
        (at_least, [stage.step_seconds for stage in stages]),
        (", expected", [stage.expected_seconds for stage in stages]),
    ):
        pairs = list(zip(stages, seconds, strict=True))
        hours = _sum([stage.chip_hours(duration) for stage, duration in pairs])
        dollars = _sum([stage.dollars(duration) for stage, duration in pairs])
        rows[f"  chip-hours{which}"], rows[f"  cost{which}"] = significant(hours), _dollars(dollars)
    return rows


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def as_dict(stage: PlannedStage) -> dict[str, Any]:
    """A stage as JSON: bytes, FLOPs, seconds, dollars."""
    work = stage.work
    values: dict[str, Any] = {
        "stage": work.name,
        "steps": work.durations.total_steps,
        "batch": work.durations.batch_size,
        "image_tokens": work.image_tokens,
        "text_tokens": work.text_tokens,
        "num_params": work.num_params,
        "settings": search.describe(work.config),
        "model_flops_per_sample": work.forward.training,
        "model_flops_per_step": work.step_flops,
        "step_seconds": stage.step_seconds,
        "mfu": stage.mfu(stage.step_seconds),
        "chip_hours": stage.chip_hours(stage.step_seconds),
        "dollars": stage.dollars(stage.step_seconds),
    }
    if stage.compiled is not None:
        memory, counts = stage.compiled.memory, stage.compiled.counts
        values |= {
            "fits": stage.compiled.fits,
            "memory": {
                "arguments": memory.arguments,
                "temporaries": memory.temporaries,
                "limit": memory.limit,
            },
            "compiled_flops_per_chip": stage.compiled.flops,
            "compiled_over_model_flops": stage.flops_ratio,
            "collective_bytes_per_chip": counts and counts.collectives,
            "compile_seconds": round(stage.compiled.seconds, 1),
            "nearest_batch": stage.nearest_batch or None,
            "expected_step_seconds": stage.expected_seconds,
            "expected_mfu": stage.mfu(stage.expected_seconds),
            "expected_chip_hours": stage.chip_hours(stage.expected_seconds),
            "expected_dollars": stage.dollars(stage.expected_seconds),
        }
    if stage.estimate is not None:
        values["estimated_memory"] = asdict(stage.estimate.memory) | {"chip": stage.chip.memory}
    return values


def _seconds(amount: float | None) -> str:
    if amount is None or amount >= 10:
        return "-" if amount is None else f"{amount:,.1f} s"
    return (
        f"{significant(amount * 1e3)} ms" if amount >= 1e-3 else f"{significant(amount * 1e6)} us"
    )


def _dollars(value: float | None) -> str:
    return "-" if value is None else f"${significant(value)}"

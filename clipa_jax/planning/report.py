"""The plan of a schedule as a table and as JSON."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from clipa_jax.planning import analytic, chips, cost, search
from clipa_jax.planning.compiled import Compiled
from clipa_jax.planning.workload import Workload
from clipa_jax.runtime.format import count, memory, percent, short, significant, table


@dataclass(frozen=True)
class PlannedStage:
    """One stage of a plan, either compiled or estimated.

    `nearest` is the largest smaller batch that fits, of a stage that does not, and
    `nearest_batch` its size; None and 0 without a search or a result. `images_per_core` are the
    images/s that a host core prepares, if known.
    """

    work: Workload
    chip: chips.Chip
    num_chips: int
    price: chips.Price
    compiled: Compiled | None = None
    estimate: analytic.Estimate | None = None
    nearest: Compiled | None = None
    nearest_batch: int = 0
    images_per_core: float | None = None

    @property
    def step(self) -> cost.StepTime | None:
        return cost.roofline(self.compiled, self.chip) if self.compiled else None

    @property
    def step_seconds(self) -> float | None:
        if self.estimate is not None:
            return self.estimate.step_seconds
        return self.step.seconds if self.step else None

    @property
    def expected_seconds(self) -> float | None:
        """Seconds of a step by the compiler's estimate."""
        return self.step.expected if self.step else None

    @property
    def flops_ratio(self) -> float | None:
        """FLOPs of the step, recomputation included, over the model's own."""
        if self.compiled is None:
            return None
        return self.compiled.flops * self.num_chips / self.work.step_flops

    def mfu(self, seconds: float | None) -> float | None:
        """Model FLOPs utilization: the model's own FLOPs over the chips' peak in `seconds`."""
        if seconds is None:
            return None
        return self.work.step_flops / (seconds * self.num_chips * self.chip.peak)

    def host_cores(self, seconds: float | None) -> float | None:
        """Host cores that prepare the samples of one chip, with steps of `seconds`."""
        if seconds is None or self.images_per_core is None:
            return None
        samples = self.work.durations.batch_size / self.num_chips
        return samples / seconds / self.images_per_core

    def chip_hours(self, seconds: float | None) -> float | None:
        """Chip-hours of the stage with steps of `seconds`."""
        if seconds is None:
            return None
        return self.work.durations.total_steps * seconds * self.num_chips / 3600

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
        size, batch = self.compiled.memory, self.work.durations.batch_size
        sentence = (
            f"{self.work.name} does not fit: a chip needs {memory(size.total)} and has "
            f"{memory(size.limit)}, {memory(size.excess)} too little, at batch {batch:,} "
            f"({batch // self.num_chips:,} a chip; {search.describe(self.work.config)})"
        )
        if self.nearest_batch and self.nearest is not None:
            sentence += (
                f"; nearest that fits: batch {self.nearest_batch:,} "
                f"({self.nearest_batch // self.num_chips:,} a chip), "
                f"{memory(self.nearest.memory.total)}"
            )
        return sentence


class Quantity(NamedTuple):
    """A value of a stage: its key in JSON (`a.b` nests), its label in the table, "" for none."""

    key: str
    label: str
    value: Any
    text: Callable[[Any], str] = str
    adds_up: bool = False  # over the stages of a schedule

    def cell(self) -> str:
        return "-" if self.value is None else self.text(self.value)


def text(stages: list[PlannedStage], title: str) -> str:
    """The plan as a table with a column for each stage and one for the schedule."""
    rows: list[tuple[str, ...]] = [("", *(stage.work.name for stage in stages), "schedule")]
    for row in zip(*(quantities(stage) for stage in stages), strict=True):
        if row[0].label:
            values = [quantity.value for quantity in row]
            total = ""
            if row[0].adds_up:
                total = row[0]._replace(value=None if None in values else sum(values)).cell()
            rows.append((row[0].label, *(quantity.cell() for quantity in row), total))
    lines = [title, "", table(rows, right=range(1, len(rows[0])))]
    lines += [f"\n{stage.verdict()}" for stage in stages if stage.verdict()]
    return "\n".join(lines)


def as_dict(stage: PlannedStage) -> dict[str, Any]:
    """A stage as JSON: bytes, FLOPs, seconds, dollars."""
    values: dict[str, Any] = {}
    for quantity in quantities(stage):
        if quantity.key:
            section, _, key = quantity.key.rpartition(".")
            (values.setdefault(section, {}) if section else values)[key] = quantity.value
    return values


def quantities(stage: PlannedStage) -> list[Quantity]:
    """All values of a stage in the order of the table."""
    if stage.compiled is None:
        return [
            *_work(stage),
            *_estimated(stage),
            *_paid(stage, stage.step_seconds, "", ""),
            *_host(stage, stage.step_seconds),
        ]
    expected = stage.expected_seconds
    bottom_up = stage.step.bottom_up if stage.step else None
    return [
        *_work(stage),
        *_compiled(stage),
        *_paid(stage, stage.step_seconds, "", ", at least"),
        Quantity("bottom_up_step_seconds", "bottom-up step", bottom_up, _seconds),
        *_paid(stage, bottom_up, "bottom_up_", ", bottom-up"),
        Quantity("expected_step_seconds", "compiler expects a step of", expected, _seconds),
        *_paid(stage, expected, "expected_", ", expected"),
        *_host(stage, bottom_up),
        Quantity("nearest_batch", "", stage.nearest_batch or None),
    ]


def _work(stage: PlannedStage) -> list[Quantity]:
    work, steps = stage.work, stage.work.durations
    per_chip = work.step_flops / stage.num_chips
    return [
        Quantity("stage", "", work.name),
        Quantity("num_params", "parameters", work.num_params, short),
        Quantity("", "samples", steps.total_examples, count, adds_up=True),
        Quantity("batch", "batch", steps.batch_size, count),
        Quantity("", "  a chip", steps.batch_size // stage.num_chips, count),
        Quantity("steps", "steps", steps.total_steps, count, adds_up=True),
        Quantity("image_tokens", "tokens of an image", work.image_tokens, count),
        Quantity("text_tokens", "tokens of a caption", work.text_tokens, count),
        Quantity("settings", "settings", search.describe(work.config)),
        Quantity("model_flops_per_sample", "model FLOPs of a sample", work.forward.training, short),
        Quantity("model_flops_per_step", "", work.step_flops),
        Quantity("", "model FLOPs of a step and chip", per_chip, short),
    ]


def _paid(stage: PlannedStage, seconds: float | None, key: str, which: str) -> list[Quantity]:
    bound = which.replace("at least", "at most")
    hours, dollars = stage.chip_hours(seconds), stage.dollars(seconds)
    return [
        Quantity(f"{key}mfu", f"  MFU{bound}", stage.mfu(seconds), percent),
        Quantity(f"{key}chip_hours", f"  chip-hours{which}", hours, significant, adds_up=True),
        Quantity(f"{key}dollars", f"  cost{which}", dollars, _dollars, adds_up=True),
    ]


def _host(stage: PlannedStage, seconds: float | None) -> list[Quantity]:
    if stage.images_per_core is None:
        return []
    return [
        Quantity("host_cores_per_chip", "host cores a chip", stage.host_cores(seconds), significant)
    ]


def _compiled(stage: PlannedStage) -> list[Quantity]:
    assert stage.compiled is not None
    result, size, step = stage.compiled, stage.compiled.memory, stage.step
    received = result.counts and result.counts.collectives
    excess = f"no: {memory(size.excess)} too much"
    return [
        Quantity("compiled_flops_per_chip", "computed FLOPs", result.flops, short),
        Quantity(
            "compiled_over_model_flops", "  over the model's", stage.flops_ratio, "{:.2f}".format
        ),
        Quantity("", "memory of a chip", size.total, memory),
        Quantity("memory.arguments", "  arguments", size.arguments, memory),
        Quantity("memory.temporaries", "  temporaries", size.temporaries, memory),
        Quantity("memory.limit", "  limit", size.limit, memory),
        Quantity("fits", "  fits", result.fits, lambda fits: "yes" if fits else excess),
        Quantity(
            "collective_bytes_per_chip",
            "received from other chips",
            received,
            lambda by_kind: short(sum(by_kind.values()), "B"),
        ),
        Quantity("compile_seconds", "compiled in", round(result.seconds, 1), "{:,.0f} s".format),
        Quantity("step_seconds", "roofline step", stage.step_seconds, _seconds),
        Quantity("", "  compute", step and step.compute, _seconds),
        Quantity("", "  interconnect", step and step.interconnect, _seconds),
    ]


def _estimated(stage: PlannedStage) -> list[Quantity]:
    assert stage.estimate is not None
    size = stage.estimate.memory
    return [
        Quantity("", "memory of a chip, estimate", size.total, memory),
        Quantity("estimated_memory.state", "  state and gradient", size.state, memory),
        Quantity("estimated_memory.activations", "  activations", size.activations, memory),
        Quantity("estimated_memory.layer", "  one layer", size.layer, memory),
        Quantity("estimated_memory.loss", "  logits", size.loss, memory),
        Quantity("estimated_memory.chip", "  the chip has", stage.chip.memory, memory),
        Quantity("step_seconds", "step", stage.estimate.step_seconds, _seconds),
    ]


def _seconds(amount: float) -> str:
    if amount >= 10:
        return f"{amount:,.1f} s"
    return (
        f"{significant(amount * 1e3)} ms" if amount >= 1e-3 else f"{significant(amount * 1e6)} us"
    )


def _dollars(value: float) -> str:
    return f"${significant(value)}"

"""From FLOPs and bytes to seconds, chip-hours and dollars."""

from dataclasses import dataclass

from clipa_jax.planning import chips, compiled, kernels


@dataclass(frozen=True)
class StepTime:
    """Lower bound and expectation of the seconds of one training step.

    Attributes:
      compute, interconnect: seconds that each needs alone at its peak.
      cycles: seconds of the compiler's cycle estimates, which include memory traffic and
        operations that are no products, and of the kernels, for which it has none; None where
        the chip's clock is not known.
    """

    compute: float
    interconnect: float
    cycles: float | None

    @property
    def seconds(self) -> float:
        """The lower bound of any schedule."""
        return max(self.compute, self.interconnect)

    @property
    def expected(self) -> float | None:
        """The compiler's estimate, with communication overlapped."""
        return None if self.cycles is None else max(self.cycles, self.interconnect)

    @property
    def bound(self) -> str:
        return "compute" if self.compute >= self.interconnect else "interconnect"


@dataclass(frozen=True)
class Price:
    """Dollars for an hour of one chip, None if unknown, and the source of the number."""

    dollars: float | None
    source: str


def roofline(step: compiled.Compiled, chip: chips.Chip) -> StepTime | None:
    """Bound and expectation of a compiled step; None for one that does not fit.

    The bound has products at the chip's peak and all links busy, both at the same time.
    """
    counts = step.counts
    if counts is None:
        return None
    expected = None
    if chip.clock and counts.cycles:
        expected = counts.cycles / chip.clock + kernels.seconds(counts.kernels, chip)
    return StepTime(
        compute=step.flops / chip.peak,
        interconnect=sum(counts.collectives.values()) / chip.interconnect,
        cycles=expected,
    )


def hours(steps: int, step_seconds: float, num_chips: int) -> float:
    """Chip-hours of a stage."""
    return steps * step_seconds * num_chips / 3600


def price(chip: chips.Chip, dollars: float | None) -> Price:
    """The price that was given, or else that of the table with its source and date."""
    if dollars is not None:
        return Price(dollars, "as given")
    if chip.price is None:
        return Price(None, "no source; give --price")
    return Price(chip.price.dollars, chip.price.source)

"""From counts to seconds, chip-hours and dollars."""

from dataclasses import dataclass

from clipa_jax.planning import chips, hlo


@dataclass(frozen=True)
class Step:
    """How long one training step takes at least, and how long the compiler expects.

    Attributes:
      compute, interconnect: seconds that each would need alone at its peak.
      cycles: seconds of the compiler's own cycle estimates, which know of memory and of
        operations that are no products; None where the chip's clock is not known.
    """

    compute: float
    interconnect: float
    cycles: float | None

    @property
    def seconds(self) -> float:
        """The bound that no schedule can beat."""
        return max(self.compute, self.interconnect)

    @property
    def expected(self) -> float | None:
        """The compiler's estimate, if nothing waits for the interconnect that need not."""
        return None if self.cycles is None else max(self.cycles, self.interconnect)

    @property
    def bound(self) -> str:
        return "compute" if self.compute >= self.interconnect else "interconnect"


@dataclass(frozen=True)
class Price:
    """Dollars for an hour of one chip, and where that comes from; dollars None if unknown."""

    dollars: float | None
    source: str


def roofline(counts: hlo.Counts, chip: chips.Chip) -> Step:
    """Bound and expectation from the compiled counts of one chip.

    The bound has products run at the chip's peak and all links busy, both at the same time.
    """
    return Step(
        compute=counts.flops / chip.peak,
        interconnect=sum(counts.collectives.values()) / chip.interconnect,
        cycles=counts.cycles / chip.clock if chip.clock and counts.cycles else None,
    )


def hours(steps: int, step_seconds: float, num_chips: int) -> float:
    """Chip-hours of a stage."""
    return steps * step_seconds * num_chips / 3600


def price(chip: chips.Chip, dollars: float | None) -> Price:
    """The price that was given, or else the table's with its source and date."""
    if dollars is not None:
        return Price(dollars, "as given")
    if chip.price is None:
        return Price(None, "no source; give --price")
    return Price(chip.price.dollars, chip.price.source)

"""From counts to seconds, chip-hours and dollars."""

from dataclasses import dataclass

from clipa_jax.planning import chips, hlo


@dataclass(frozen=True)
class Step:
    """How long one training step takes at least, and which part of a chip bounds it.

    Attributes:
      compute, interconnect: seconds that each would need alone.
      bound: name of the larger, which the step cannot beat.
    """

    compute: float
    interconnect: float

    @property
    def seconds(self) -> float:
        return max(self.compute, self.interconnect)

    @property
    def bound(self) -> str:
        return "compute" if self.compute >= self.interconnect else "interconnect"


@dataclass(frozen=True)
class Price:
    """Dollars for an hour of one chip, and where that comes from; dollars None if unknown."""

    dollars: float | None
    source: str


def roofline(counts: hlo.Counts, chip: chips.Chip) -> Step:
    """A bound from the compiled counts of one chip.

    Products run at the chip's peak and all links are busy, both at the same time: a real
    step takes longer, by the share that `--efficiency` states.
    """
    return Step(
        compute=counts.flops / chip.peak,
        interconnect=sum(counts.collectives.values()) / chip.interconnect,
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

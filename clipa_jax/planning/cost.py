"""From FLOPs and bytes to the seconds of a step."""

from dataclasses import dataclass

from clipa_jax.planning import chips, compiled, kernels


@dataclass(frozen=True)
class StepTime:
    """Lower bound and expectation of the seconds of one training step.

    `compute` and `interconnect` are the seconds that each needs alone at its peak. `cycles` is the
    compiler's estimate, which includes memory traffic and operations that are no products, and the
    kernels, for which it has none; None where the chip's clock is not known.
    """

    compute: float
    interconnect: float
    cycles: float | None

    @property
    def seconds(self) -> float:
        """The lower bound of any schedule: products at the peak while all links are busy."""
        return max(self.compute, self.interconnect)

    @property
    def expected(self) -> float | None:
        """The compiler's estimate, with communication overlapped."""
        return None if self.cycles is None else max(self.cycles, self.interconnect)


def roofline(step: compiled.Compiled, chip: chips.Chip) -> StepTime | None:
    """Bound and expectation of a compiled step; None for one that does not fit."""
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

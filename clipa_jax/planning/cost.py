"""From FLOPs and bytes to the seconds of a step."""

from dataclasses import dataclass

from clipa_jax.planning import chips, compiled, kernels, operations


@dataclass(frozen=True)
class StepTime:
    """Lower bounds and expectation of the seconds of one training step.

    `compute` and `interconnect` are the seconds that each needs alone at its peak. `operations` is
    the sum over all operations, one after the other, each bound by its products or its memory
    traffic; it knows no stalls. `cycles` is the compiler's estimate, which charges memory traffic
    several times its bound; None where the chip's clock is not known. Both include the kernels.
    """

    compute: float
    interconnect: float
    operations: float | None
    cycles: float | None

    @property
    def seconds(self) -> float:
        """The lower bound of any schedule: products at the peak while all links are busy."""
        return max(self.compute, self.interconnect)

    @property
    def bottom_up(self) -> float | None:
        """The bound of all operations one by one, with communication overlapped."""
        return None if self.operations is None else max(self.operations, self.interconnect)

    @property
    def expected(self) -> float | None:
        """The compiler's estimate, with communication overlapped."""
        return None if self.cycles is None else max(self.cycles, self.interconnect)


def roofline(step: compiled.Compiled, chip: chips.Chip) -> StepTime | None:
    """Bound and expectation of a compiled step; None for one that does not fit."""
    counts = step.counts
    if counts is None:
        return None
    expected = bound = None
    in_kernels = kernels.seconds(counts.kernels, chip)
    if step.operations:
        bound = operations.seconds(step.operations, chip.peak, chip.bandwidth) + in_kernels
    if chip.clock and counts.cycles:
        expected = counts.cycles / chip.clock + in_kernels
    return StepTime(
        compute=step.flops / chip.peak,
        interconnect=sum(counts.collectives.values()) / chip.interconnect,
        operations=bound,
        cycles=expected,
    )

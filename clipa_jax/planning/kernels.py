"""Seconds of Pallas kernels, for which the TPU compiler has no cycle estimate.

The larger of two bounds: the final schedule, of which a chip issues one bundle a cycle if nothing
stalls, and the bytes of the kernel's arrays at the memory's bandwidth. The schedules below were
counted with libtpu 0.0.52 and JAX 0.12.0 by

    python -m clipa_jax.planning.kernel_schedules --topology=v5e:2x2
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from clipa_jax.models import packed
from clipa_jax.planning import chips
from clipa_jax.planning.hlo import Kernel


class Schedule(NamedTuple):
    """Bundles of a kernel of packed attention: of a grid step without its windows, of a window."""

    step: int
    window: int


# By tokens, heads and width of a head: step and window of the forward kernel, of the backward one.
_V5E = {
    "8x12x64": (38, 1635, 62, 3263),
    "32x12x64": (38, 1607, 62, 3247),
    "8x16x64": (39, 2056, 77, 4307),
    "32x16x64": (39, 2036, 77, 4295),
    "37x16x64": (39, 2138, 75, 4421),
    "180x16x64": (38, 5493, 75, 10628),
    "346x16x64": (50, 6869, 80, 13962),
    "8x20x64": (38, 2448, 81, 5340),
    "32x20x64": (38, 2426, 80, 5327),
    "37x16x80": (39, 3636, 80, 6311),
    "180x16x80": (38, 7948, 80, 14712),
    "346x16x80": (49, 8706, 83, 17699),
    "37x16x104": (39, 3544, 89, 7111),
    "154x16x104": (38, 7937, 89, 13746),
    "346x16x104": (38, 17658, 89, 36075),
}
# By chip, then by the name of the kernel, see `models.packed.NAME`.
SCHEDULES = {
    "v5e": {
        packed.NAME.format(kernel, *shape.split("x")): Schedule(*bundles[at : at + 2])
        for shape, bundles in _V5E.items()
        for at, kernel in ((0, "forward"), (2, "backward"))
    }
}
_PACKED = re.compile(packed.NAME.format(r"(?:forward|backward)", r"(\d+)", r"(\d+)", r"(\d+)"))


def seconds(counts: Mapping[Kernel, float], chip: chips.Chip) -> float:
    """Of all runs of all kernels; by bytes alone for those without a recorded schedule."""
    total = 0.0
    for kernel, runs in counts.items():
        bound = kernel.bytes / chip.bandwidth
        schedule = SCHEDULES.get(chip.name, {}).get(kernel.name)
        if schedule and chip.clock:
            bound = max(bound, _bundles(kernel, schedule) / chip.clock)
        total += runs * bound
    return total


def without_schedule(counts: Mapping[Kernel, float], chip: chips.Chip) -> list[str]:
    """Names of the kernels that the table lacks."""
    return sorted({kernel.name for kernel in counts} - set(SCHEDULES.get(chip.name, {})))


def _bundles(kernel: Kernel, schedule: Schedule) -> float:
    """Bundles of one run of a kernel of packed attention."""
    match = _PACKED.fullmatch(kernel.name)
    assert match, kernel.name
    tiling = packed.tile(*map(int, match.groups()))
    tiling = packed.for_batch(tiling, kernel.rows // tiling.stride)
    steps = kernel.rows // tiling.rows * (tiling.heads // tiling.group)
    return steps * (schedule.step + tiling.windows * schedule.window)

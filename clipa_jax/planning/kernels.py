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
    """Bundles of a kernel of packed attention.

    Attributes:
      step: of a grid step, without its windows.
      window: of a window.
    """

    step: int
    window: int


# By chip, then by the name of the kernel, see `models.packed.NAME`.
SCHEDULES: dict[str, dict[str, Schedule]] = {
    "v5e": {
        "packed_attention_forward_8x12x64": Schedule(38, 1635),
        "packed_attention_backward_8x12x64": Schedule(62, 3263),
        "packed_attention_forward_32x12x64": Schedule(38, 1607),
        "packed_attention_backward_32x12x64": Schedule(62, 3247),
        "packed_attention_forward_8x16x64": Schedule(39, 2056),
        "packed_attention_backward_8x16x64": Schedule(77, 4307),
        "packed_attention_forward_32x16x64": Schedule(39, 2036),
        "packed_attention_backward_32x16x64": Schedule(77, 4295),
        "packed_attention_forward_37x16x64": Schedule(39, 2138),
        "packed_attention_backward_37x16x64": Schedule(75, 4421),
        "packed_attention_forward_180x16x64": Schedule(38, 5493),
        "packed_attention_backward_180x16x64": Schedule(75, 10628),
        "packed_attention_forward_346x16x64": Schedule(50, 6869),
        "packed_attention_backward_346x16x64": Schedule(80, 13962),
        "packed_attention_forward_8x20x64": Schedule(38, 2448),
        "packed_attention_backward_8x20x64": Schedule(81, 5340),
        "packed_attention_forward_32x20x64": Schedule(38, 2426),
        "packed_attention_backward_32x20x64": Schedule(80, 5327),
        "packed_attention_forward_37x16x80": Schedule(39, 3636),
        "packed_attention_backward_37x16x80": Schedule(80, 6311),
        "packed_attention_forward_180x16x80": Schedule(38, 7948),
        "packed_attention_backward_180x16x80": Schedule(80, 14712),
        "packed_attention_forward_346x16x80": Schedule(49, 8706),
        "packed_attention_backward_346x16x80": Schedule(83, 17699),
        "packed_attention_forward_37x16x104": Schedule(39, 3544),
        "packed_attention_backward_37x16x104": Schedule(89, 7111),
        "packed_attention_forward_154x16x104": Schedule(38, 7937),
        "packed_attention_backward_154x16x104": Schedule(89, 13746),
        "packed_attention_forward_346x16x104": Schedule(38, 17658),
        "packed_attention_backward_346x16x104": Schedule(89, 36075),
    },
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

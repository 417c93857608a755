"""Accelerators: what their makers publish, and what an hour of one costs.

Peaks are of dense bfloat16 products. Sources: Cloud TPU documentation, pages v4, v5e, v5p
and v6e (read November 2026); NVIDIA's data sheets of A100, H100 and H200 SXM. The
interconnect is what a chip receives over all of its links together; where only a pod's
all-reduce bandwidth is published (v4: 1.1 PB/s over 4,096 chips), it is that a chip.
"""

from dataclasses import dataclass

from clipa_jax.errors import ConfigError, unknown

GB, GIB, TERA = 1e9, 2**30, 1e12


@dataclass(frozen=True)
class Price:
    """US dollars for an hour of one chip; an option everywhere, for prices move.

    Attributes:
      dollars: on demand.
      source: where it was read, and when.
    """

    dollars: float
    source: str


@dataclass(frozen=True)
class Chip:
    """One accelerator.

    Attributes:
      name: as in a topology, `v5e`, or of a GPU, `a100-80gb`.
      peak: bfloat16 FLOP/s.
      memory: bytes; the TPU compiler keeps a little of it for itself.
      bandwidth: of that memory, bytes/s.
      interconnect: bytes/s that a chip receives over all its links.
      price: None where no source was found.
      clock: cycles/s, for the compiler's own estimates: the peak over what the documented
        matrix units (128 x 128, two FLOPs a cell and cycle) do in a cycle. None where that
        is not known.
    """

    name: str
    peak: float
    memory: float
    bandwidth: float
    interconnect: float
    price: Price | None = None
    clock: float | None = None


_V5E = Price(1.20, "Google's list price as quoted in November 2024")
_V6E = Price(2.70, "Google's list price as quoted in November 2024")
_A100 = Price(1.575, "CLIPA's table: $12,247 for 7,776 hours (2023)")
_H100 = Price(6.88, "AWS p5.48xlarge / 8, on demand, us-east-1, November 2026")

TPUS = (
    Chip("v4", 275 * TERA, 32 * GIB, 1200 * GB, 268 * GB),
    Chip("v5e", 197 * TERA, 16 * GIB, 819 * GB, 200 * GB, _V5E, 197 * TERA / (4 * 128 * 128 * 2)),
    Chip("v5p", 459 * TERA, 95 * GIB, 2765 * GB, 600 * GB),
    Chip("v6e", 918 * TERA, 32 * GIB, 1640 * GB, 400 * GB, _V6E),
)
GPUS = (
    Chip("a100-80gb", 312 * TERA, 80 * GIB, 2039 * GB, 300 * GB, _A100),
    Chip("h100", 989 * TERA, 80 * GIB, 3350 * GB, 450 * GB, _H100),
    Chip("h200", 989 * TERA, 141 * GB, 4800 * GB, 450 * GB),
)
CHIPS = {chip.name: chip for chip in (*TPUS, *GPUS)}


def chip(name: str) -> Chip:
    """The chip of a name.

    Raises:
      ConfigError: the table does not have it.
    """
    if name not in CHIPS:
        raise ConfigError(unknown("device", name, CHIPS))
    return CHIPS[name]

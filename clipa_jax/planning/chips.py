"""Accelerators: published peaks, memory and bandwidth, and the price of an hour.

Peaks are of dense bfloat16 products, without sparsity, with float32 accumulation (T4: float16,
since it has no bfloat16). Sources: Cloud TPU documentation, pages v4, v5e, v5p and v6e (read
November 2026); NVIDIA's data sheets of T4, L4, A10G, A100, H100 and H200 SXM and HGX B200, and the
Ada whitepaper for the RTX 4090. The interconnect is the bandwidth that a chip receives over all
of its links: of NVLink, or of PCIe x16 (generation 3: 16 GB/s, 4: 32 GB/s); where only a pod's
all-reduce bandwidth is published (v4: 1.1 PB/s over 4,096 chips), it is the share of a chip.
"""

from dataclasses import dataclass

from clipa_jax.errors import ConfigError, unknown

GB, GIB, TERA = 1e9, 2**30, 1e12


@dataclass(frozen=True)
class Price:
    """US dollars for an hour of one chip on demand, None if unknown, and the dated source."""

    dollars: float | None
    source: str

    def __str__(self) -> str:
        if self.dollars is None:
            return f"no price ({self.source})"
        return f"${self.dollars:.2f} for a chip-hour ({self.source})"


@dataclass(frozen=True)
class Chip:
    """One accelerator.

    `name` is as in a topology (`v5e`), or of a GPU (`a100-80gb`). FLOP/s, bytes, bytes/s. `clock`
    is in cycles/s, for the compiler's estimates: the peak over the FLOPs of the documented matrix
    units (128 x 128, two FLOPs a cell) in a cycle; None if unknown.
    """

    name: str
    peak: float
    memory: float
    bandwidth: float
    interconnect: float
    price: Price = Price(None, "no source; give --price")
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
    Chip("t4", 65 * TERA, 16 * GIB, 320 * GB, 16 * GB),
    Chip("l4", 121 * TERA, 24 * GIB, 300 * GB, 32 * GB),
    Chip("a10g", 70 * TERA, 24 * GIB, 600 * GB, 32 * GB),
    Chip("rtx4090", 165.2 * TERA, 24 * GIB, 1008 * GB, 32 * GB),
    Chip("a100-40gb", 312 * TERA, 40 * GIB, 1555 * GB, 300 * GB),
    Chip("a100-80gb", 312 * TERA, 80 * GIB, 2039 * GB, 300 * GB, _A100),
    Chip("h100", 989 * TERA, 80 * GIB, 3350 * GB, 450 * GB, _H100),
    Chip("h200", 989 * TERA, 141 * GB, 4800 * GB, 450 * GB),
    Chip("b200", 2250 * TERA, 180 * GB, 7700 * GB, 900 * GB),
)
# By `device_kind` of JAX; other forms of a chip, such as H100 PCIe, have another peak.
DEVICE_KINDS = {
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v5": "v5p",
    "TPU v5p": "v5p",
    "TPU v6 lite": "v6e",
    "TPU v6e": "v6e",
    "Tesla T4": "t4",
    "NVIDIA L4": "l4",
    "NVIDIA A10G": "a10g",
    "NVIDIA GeForce RTX 4090": "rtx4090",
    "NVIDIA A100-SXM4-40GB": "a100-40gb",
    "NVIDIA A100-SXM4-80GB": "a100-80gb",
    "NVIDIA H100 80GB HBM3": "h100",
    "NVIDIA H200": "h200",
    "NVIDIA B200": "b200",
}
CHIPS = {chip.name: chip for chip in (*TPUS, *GPUS)}


def chip(name: str) -> Chip:
    """The chip of a name in any spelling of case, blanks and signs: `A100-40GB`, `RTX 4090`."""
    by_key = {_key(known): chip for known, chip in CHIPS.items()} | {"4090": CHIPS["rtx4090"]}
    if _key(name) not in by_key:
        hint = unknown("device", name.lower(), CHIPS).partition("; legal")[0]
        raise ConfigError(f"{hint}; known: {', '.join(CHIPS)}")
    return by_key[_key(name)]


def of_kind(device_kind: str) -> Chip | None:
    """The chip of a device by the name that JAX gives it; None if it is not in the table."""
    name = DEVICE_KINDS.get(device_kind)
    return CHIPS[name] if name else None


def _key(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())

"""Numbers as the page shows them."""

import json
from typing import Any

from clipa_jax.runtime.terminal import clock
from clipa_jax.training.metrics import is_share

NONE = "\N{EN DASH}"
_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")


def count(value: float | None) -> str:
    """`12345` -> `12,345`."""
    return NONE if value is None else f"{round(value):,}"


def short(value: float | None, unit: str = "") -> str:
    """Three digits and a prefix: `588800` -> `589 k`, with a unit `589 kFLOPs`."""
    if value is None:
        return NONE
    power = 0
    while abs(value) >= 999.5 and power < len(_PREFIXES) - 1:
        value, power = value / 1000, power + 1
    digits = max(0, 2 - len(f"{abs(value):.0f}") + 1) if value else 0
    return f"{value:.{digits}f} {_PREFIXES[power]}{unit}".rstrip()


def duration(seconds: float | None) -> str:
    """Minutes and seconds or more; below a minute seconds."""
    if seconds is None:
        return NONE
    return f"{seconds:.1f} s" if seconds < 60 else clock(seconds)


def percent(share: float | None, digits: int = 1) -> str:
    """`0.377` -> `37.7 %`."""
    return NONE if share is None else f"{100 * share:.{digits}f} %"


def rate(value: float) -> str:
    """A learning rate: `0.00035` -> `3.5e-4`."""
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}" if value else "0"


def score(metric: str, value: float | None) -> str:
    """A metric's value: a share as percent, a loss as it is."""
    if value is None:
        return NONE
    return percent(value) if is_share(metric) else f"{value:.3f}"


def setting(value: Any) -> str:
    """A config's value."""
    if value is None:
        return NONE
    if isinstance(value, float):
        value = float(f"{value:.6g}")
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)

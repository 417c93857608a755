"""Numbers, durations and tables as text, for terminals, Markdown and the report."""

import json
from collections.abc import Collection, Sequence
from typing import Any

NONE = "\N{EN DASH}"
_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")
Row = tuple[str, ...]


def clock(seconds: float) -> str:
    """`75` -> `1:15`, `3675` -> `1:01:15`, more than two days -> `2d 03h`."""
    whole = round(seconds)
    if whole >= 2 * 86400:
        return f"{whole // 86400}d {whole % 86400 // 3600:02d}h"
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def duration(seconds: float | None) -> str:
    """`clock` from a minute on; below it, `12.3 s`."""
    if seconds is None:
        return NONE
    return f"{seconds:.1f} s" if seconds < 60 else clock(seconds)


def count(value: float | None, none: str = NONE) -> str:
    """`12345` -> `12,345`."""
    return none if value is None else f"{round(value):,}"


def number(value: float | None, form: str, none: str = "-") -> str:
    """A value in a format of Python's, such as `,.2f`."""
    return none if value is None else f"{value:{form}}"


def short(value: float | None, unit: str = "") -> str:
    """Three digits and a prefix: `588800` -> `589 k`, with a unit `589 kFLOPs`."""
    if value is None:
        return NONE
    power = 0
    while abs(value) >= 999.5 and power < len(_PREFIXES) - 1:
        value, power = value / 1000, power + 1
    digits = max(0, 2 - len(f"{abs(value):.0f}") + 1) if value else 0
    return f"{value:.{digits}f} {_PREFIXES[power]}{unit}".rstrip()


def significant(value: float | None, none: str = "-") -> str:
    """Three digits or all of the integer part: `11338.4` -> `11,338`, `0.00025`."""
    if value is None:
        return none
    return f"{value:,.0f}" if abs(value) >= 99.95 else f"{value:.3g}"


def memory(size: float | None, none: str = NONE) -> str:
    """Bytes in binary units: `13.69 GiB`, `3.00 MiB`."""
    if size is None:
        return none
    for exponent, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if abs(size) >= 2**exponent / 10:
            return f"{size / 2**exponent:,.2f} {unit}"
    return f"{size:.0f} B"


def percent(share: float | None, digits: int = 1, none: str = NONE) -> str:
    """`0.377` -> `37.7 %`."""
    return none if share is None else f"{100 * share:.{digits}f} %"


def rate(value: float) -> str:
    """A learning rate: `0.00035` -> `3.5e-4`."""
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}" if value else "0"


def is_share(metric: str) -> bool:
    """Whether an evaluator's metric is a share in [0, 1], as all are but losses."""
    return metric.rpartition("/")[2] != "loss"


def score(metric: str, value: float | None) -> str:
    """The value of a metric: a share in percent, a loss as it is."""
    if value is None:
        return NONE
    return percent(value) if is_share(metric) else f"{value:.3f}"


def setting(value: Any) -> str:
    """The value of a config key."""
    if value is None:
        return NONE
    if isinstance(value, float):
        value = float(f"{value:.6g}")
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def table(rows: Sequence[Row], right: Collection[int] = ()) -> str:
    """Aligned columns under a ruled header, for a terminal; those in `right` to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def markdown(rows: Sequence[Row], right: Collection[int] = ()) -> str:
    """The same rows as a Markdown table."""
    header, *body = rows
    ruler = ["---:" if index in right else "---" for index in range(len(header))]
    lines = [header, ruler, *body]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)

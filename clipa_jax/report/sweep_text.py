"""Groups as a table, for the terminal and as Markdown."""

from collections.abc import Sequence
from typing import Any

from clipa_jax.report.groups import Estimate, Group
from clipa_jax.runtime.terminal import table
from clipa_jax.training.metrics import is_share

Cells = list[tuple[str, ...]]


def cells(groups: Sequence[Group], metrics: Sequence[str]) -> Cells:
    """A header, and a row for each group: settings, repeats, costs, scores with their errors."""
    by = list(groups[0].by)
    marked = any(group.data for group in groups)
    header = [*by, *(["data"] if marked else []), "runs", "samples", "TFLOPs", "seconds", *metrics]
    lines: Cells = [tuple(header)]
    for group in groups:
        shown = [_short(group.by[key]) for key in by] + ([group.data] if marked else [])
        flops, seconds = group.cost("total_flops"), group.cost("total_seconds")
        shown += [
            str(len(group.rows)),
            _number(group.cost("total_samples"), ",.0f"),
            _number(None if flops is None else flops / 1e12, ",.2f"),
            _number(seconds, ",.0f"),
        ]
        lines.append((*shown, *(estimate(group.score(m), m) for m in metrics)))
    return lines


def estimate(value: Estimate | None, metric: str, sign: str = "") -> str:
    """`12.3 ± 0.4`: the mean and its standard error, shares in percent.

    A single run shows the interval of its evaluation, `12.3 [11.0, 13.5]`, where it has one.
    `sign` is "+" for differences.
    """
    if value is None:
        return "-"
    scale, form = scale_of(metric), ".3f" if is_loss(metric) else ".2f"
    mean = f"{scale * value.mean:{sign}{form}}"
    if value.error is not None:
        return f"{mean} ± {scale * value.error:{form}}"
    if value.low is not None and value.high is not None:
        return f"{mean} [{scale * value.low:{form}}, {scale * value.high:{form}}]"
    return mean


def is_loss(metric: str) -> bool:
    """Whether less of it is better."""
    return not is_share(metric)


def scale_of(metric: str) -> int:
    """What a metric is multiplied with to be shown: shares are in percent."""
    return 1 if is_loss(metric) else 100


def terminal(lines: Cells, left: int) -> str:
    """Aligned columns, all but the first `left` to the right."""
    return table(lines, right=tuple(range(left, len(lines[0]))))


def markdown(lines: Cells, left: int) -> str:
    """The same as Markdown."""
    ruler = ["---" if index < left else "---:" for index in range(len(lines[0]))]
    rows = [lines[0], tuple(ruler), *lines[1:]]
    return "\n".join("| " + " | ".join(_escaped(row)) + " |" for row in rows) + "\n"


def _escaped(row: tuple[str, ...]) -> list[str]:
    return [cell.replace("|", "\\|") for cell in row]


def _short(value: Any) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"

"""Groups of a sweep as the cells of a table."""

from collections.abc import Sequence

from clipa_jax.report.groups import Estimate, Group
from clipa_jax.runtime import format

Cells = list[format.Row]


def cells(groups: Sequence[Group], metrics: Sequence[str]) -> Cells:
    """A header, and a row for each group: settings, repeats, costs, scores with their errors."""
    by = list(groups[0].by)
    marked = any(group.data for group in groups)
    header = [*by, *(["data"] if marked else []), "runs", "samples", "TFLOPs", "seconds", *metrics]
    lines: Cells = [tuple(header)]
    for group in groups:
        values = [group.by[key] for key in by]
        shown = ["-" if v is None else f"{v:g}" if isinstance(v, float) else f"{v}" for v in values]
        shown += [group.data] if marked else []
        flops, seconds = group.cost("total_flops"), group.cost("total_seconds")
        shown += [
            str(len(group.rows)),
            format.number(group.cost("total_samples"), ",.0f"),
            format.number(None if flops is None else flops / 1e12, ",.2f"),
            format.number(seconds, ",.0f"),
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
    """Whether lower values are better."""
    return not format.is_share(metric)


def scale_of(metric: str) -> int:
    """The factor by which a metric is shown: shares are in percent."""
    return 1 if is_loss(metric) else 100

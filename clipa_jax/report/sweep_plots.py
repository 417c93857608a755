"""Plots of groups: a score against a setting or a cost, means with their standard errors.

Lines differ by color and by marker.
"""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogFormatterSciNotation, LogLocator, NullLocator

from clipa_jax.errors import DataError
from clipa_jax.report import figures, sweep_text
from clipa_jax.report.figures import COMPARISON_COLOR, DPI, FAINT, INK, STAGE_COLORS, plain_axes
from clipa_jax.report.groups import Estimate, Group
from clipa_jax.runtime import files
from clipa_jax.runtime.files import Path

COLORS = (*STAGE_COLORS, "#E69F00", COMPARISON_COLOR)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
FLOPS = "total_flops"


def against(
    groups: Sequence[Group], x: str, metric: str, out: Path, lines_by: Sequence[str] = ()
) -> Path:
    """Draws a metric against a setting, in lines, or against one of `rows.COSTS`, as points.

    `lines_by` are the settings that make a line of their own; all but `x` if empty, or against a
    cost the first. Raises `DataError` if values of `x` are not numbers.
    """
    by = [key for key in groups[0].by if key != x]
    is_setting = x in groups[0].by
    lines_by = lines_by or (by if is_setting else by[:1])
    lines: dict[str, list[tuple[float, Estimate]]] = {}
    for group in groups:
        score, place = group.score(metric), _place(group, x)
        if score is not None and place is not None:
            lines.setdefault(_label(group, lines_by), []).append((place, score))
    if not lines:
        raise DataError(f"no run has both {metric} and a number for {x}, so nothing can be drawn")
    figure, [axes] = sheet(1, height=4.8, width=8.0)
    for index, (label, points) in enumerate(lines.items()):
        line(axes, points, metric, index, label, lw=1.6 if is_setting else 0)
    style(axes, "training FLOPs, all stages" if x == FLOPS else x, score_label(metric))
    places = sorted({place for points in lines.values() for place, _ in points})
    if len(places) > 1 and places[0] > 0 and places[-1] / places[0] >= 4:
        log_axis(axes)
    if is_setting and len(places) < 12:
        ticks_at(axes, places)
    if len(lines) > 1 or next(iter(lines)):
        axes.legend(
            loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8, labelcolor=INK
        )
    return finish(figure, out)


def sheet(panels: int, *, height: float, width: float) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side that share their y axis; inches."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    return figure, list(figure.subplots(1, panels, sharey=True, squeeze=False)[0])


def line(
    axes: Axes,
    points: Sequence[tuple[float, Estimate]],
    metric: str,
    index: int,
    label: str | None = None,
    **how: Any,
) -> None:
    """Draws means in the order of x with one standard error; the style follows the index."""
    scale = sweep_text.scale_of(metric)
    if not points:
        return
    points = sorted(points, key=lambda point: point[0])
    look = {
        "color": COLORS[index % len(COLORS)],
        "marker": MARKERS[(index + index // len(COLORS)) % len(MARKERS)],
        "lw": 1.6,
        "ms": 5.5,
        "mec": "white",
        "mew": 0.7,
        "capsize": 2.5,
        "elinewidth": 1.1,
    }
    axes.errorbar(
        [place for place, _ in points],
        [scale * score.mean for _, score in points],
        yerr=[scale * (score.error or 0) for _, score in points],
        label=label or None,
        **{**look, **how},
    )


def style(axes: Axes, x_label: str, y_label: str = "") -> None:
    """Sets labels and removes lines that carry no information."""
    axes.set_xlabel(x_label, color=INK, fontsize=9)
    axes.set_ylabel(y_label, color=INK, fontsize=9)
    plain_axes(axes, labelsize=8)


def log_axis(axes: Axes) -> None:
    """Makes x logarithmic, with labels at 1, 2 and 5 times the powers of ten."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=9))
    axes.xaxis.set_minor_locator(NullLocator())
    always = (math.inf, math.inf)
    formatter = LogFormatterSciNotation(labelOnlyBase=False, minor_thresholds=always)
    axes.xaxis.set_major_formatter(formatter)


def ticks_at(axes: Axes, places: Sequence[float]) -> None:
    """Sets ticks at these places alone, written as numbers."""
    axes.xaxis.set_major_locator(FixedLocator(list(places)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda place, _: f"{place:g}")


def finish(figure: Figure, out: Path, text: str = "") -> Path:
    """Writes the PNG, with a small line below the panels."""
    if text:
        figure.supxlabel(text, fontsize=8, color=FAINT)
    files.make_folder(out.parent)
    return figures.save(figure, out)


def score_label(metric: str) -> str:
    """The label of the y axis."""
    return f"{metric}, nats" if sweep_text.is_loss(metric) else f"{metric}, %"


def _place(group: Group, x: str) -> float | None:
    value = group.by[x] if x in group.by else group.cost(x)
    if value is None or isinstance(value, int | float):
        return value
    raise DataError(f"{x} is {value!r} in {group.rows[0].run}, not a number; take another --x")


def _label(group: Group, keys: Sequence[str]) -> str:
    parts = [f"{key.rpartition('.')[2]} {group.by.get(key)}" for key in keys]
    return ", ".join([*parts, *([f"data {group.data}"] if group.data else [])])

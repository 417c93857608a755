"""The curves as Vega-Lite charts, drawn in the browser by Vega, which the page carries."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import vl_convert
from absl import logging

from clipa_jax.errors import DataError
from clipa_jax.report import curves
from clipa_jax.runs import Run
from clipa_jax.runtime.format import is_share


@dataclass(frozen=True)
class Chart:
    """The content of a chart: `metrics` to choose from, in one format of d3, as lines or dots."""

    name: str
    title: str
    metrics: tuple[str, ...]
    form: str = "f"
    dots: bool = False


FIXED = (
    Chart("loss", "Training loss, nats", ("loss",)),
    Chart("temperature", "Inverse temperature (the factor of the similarities)", ("temperature",)),
    Chart("lr", "Learning rate", ("lr",), form="e"),
)
# 6.4 shows names in tooltips of the nearest point as undefined (vega-lite pull request 9707).
VEGA_LITE = "6.1"
# Units of the time axis: seconds, name, and from how many units on it is used.
_TIMES = ((86400, "days", 3), (3600, "hours", 3), (60, "minutes", 2), (1, "seconds", 0))
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4])  # of runs, in their order
# Defined in CSS, so that the charts follow the page from light to dark.
COLORS = tuple(f"var(--series-{index})" for index in range(5))

CONFIG = {
    "background": "transparent",
    "font": _FONT,
    "padding": 4,
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--soft)",
        "titleColor": "var(--soft)",
        "titleFontWeight": "normal",
        "titleFontSize": 12,
        "labelFontSize": 11,
        "gridColor": "var(--rule)",
        "domain": False,
        "ticks": False,
        "labelPadding": 6,
        "titlePadding": 8,
    },
    "axisX": {"grid": False, "domain": True, "domainColor": "var(--rule)", "tickCount": 6},
    "axisY": {"tickCount": 5},
}


@functools.cache
def library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that sets `window.vegaEmbed`."""
    # Without a snippet it is the libraries alone; the package's type hints forget None.
    return vl_convert.javascript_bundle(None, vl_version=VEGA_LITE)  # type: ignore[arg-type]


def comparison(runs: Sequence[Run]) -> curves.Comparison | None:
    """The curve that a single run is compared with, if it can be read."""
    try:
        return curves.comparison(runs[0]) if len(runs) == 1 and runs[0].headline else None
    except DataError as error:
        logging.info("no comparison: %s", error)
        return None


def charts(runs: Sequence[Run], compare: curves.Comparison | None = None) -> dict[str, Any]:
    """The charts as the page's script draws them, with `axes` and `data` by metric.

    A chart has `id`, `title`, `about` (for screen readers), `note`, `metrics` to choose from, and
    `spec`, into which the script puts an axis and the data.
    """
    longest = max(sum(stage.seconds for stage in run.stages) for run in runs)
    unit, seconds = next((unit, size) for size, unit, least in _TIMES if longest >= size * least)
    evaluated = list(dict.fromkeys(name for run in runs for name in curves.metrics_of(run)))
    data = {
        name: rows
        for name in [*(chart.name for chart in FIXED), *evaluated]
        if (rows := _rows(runs, name, seconds))
    }
    if compare and runs[0].headline:
        own = {"run": compare.label, "series": compare.label}
        data.setdefault(runs[0].headline, []).extend(
            row for curve in compare.curves for row in _curve(curve, runs[0].headline, seconds, own)
        )
    specs = []
    shown = [name for name in evaluated if name in data]
    shares = [name for name in shown if is_share(name)]
    if shown:
        title = "Held-out accuracy, %" if shares else "Held-out score"
        # Headlines first, then other top-1 accuracies.
        first = {run.headline for run in runs}
        names = sorted(shares or shown, key=lambda n: (n not in first, not n.endswith("/top1")))
        specs.append(_drawn(Chart("score", title, tuple(names), dots=True), runs, compare))
    specs += [_drawn(chart, runs) for chart in FIXED if chart.name in data]
    for chart in specs:
        rows = data[chart["metrics"][0]]
        if all(row["alone"] for row in rows if not compare or row["series"] != compare.label):
            key = "eval" if chart["id"] == "score" else "log"
            chart["note"] = f"One value so far; a line needs two. config.{key}_* say how often."
    return {"axes": _axes(unit, data), "config": CONFIG, "data": data, "charts": specs}


def legend(
    runs: Sequence[Run], compare: curves.Comparison | None = None
) -> list[tuple[str, int | None]]:
    """(name, index of the color) of stages of a single run, else of runs; None: the comparison."""
    entries: list[tuple[str, int | None]] = [
        (name, index % len(COLORS)) for index, name in enumerate(_names(runs))
    ]
    return [*entries, (compare.label, None)] if compare else entries


def _names(runs: Sequence[Run]) -> list[str]:
    if len(runs) == 1:
        return [stage.name for stage in runs[0].stages]
    return [run.label for run in runs]


def _drawn(
    chart: Chart, runs: Sequence[Run], compare: curves.Comparison | None = None
) -> dict[str, Any]:
    series = legend(runs, compare)
    names = [name for name, _ in series]
    colors = ["var(--soft)" if index is None else COLORS[index] for _, index in series]
    scale = {"domain": names, "range": colors}
    encoding: dict[str, Any] = {
        "x": {},  # the script puts an axis here
        "y": {
            "field": "y",
            "type": "quantitative",
            "title": None,
            "scale": {"zero": chart.dots, "nice": True},
            "axis": {"labelExpr": _label(f".2~{chart.form}")},
        },
        "color": {"field": "series", "type": "nominal", "scale": scale, "legend": None},
        "detail": {"field": "stage", "type": "nominal"},
    }
    line: dict[str, Any] = {"mark": {"type": "line", "strokeWidth": 2, "strokeJoin": "round"}}
    dashes = [DASHES[1 if i is None else i if len(runs) > 1 else 0] for _, i in series]
    dash = {"domain": names, "range": dashes}
    line["encoding"] = {
        "strokeDash": {"field": "series", "type": "nominal", "scale": dash, "legend": None}
    }
    shape = {"shape": {"field": "stage", "type": "nominal", "legend": None}}
    # A single value makes no line, so it is a dot in every chart.
    points: dict[str, Any] = {"mark": {"type": "point", "filled": True, "size": 55, "opacity": 1}}
    alone = {"condition": {"test": "datum.alone", "value": 1}, "value": 0}
    points["encoding"] = shape if chart.dots else {"opacity": alone}
    over = ", ".join(_names(runs))
    return {
        "id": chart.name,
        "title": chart.title,
        "about": f"{chart.title} over the course of training: {over}.",
        "note": "",
        "metrics": [*chart.metrics],
        "spec": {
            "width": "container",
            "height": 220,
            "autosize": {"type": "fit-x", "contains": "padding"},
            "encoding": encoding,
            "layer": [line, points, _hover(chart.form)],
        },
    }


def _label(form: str) -> str:
    """The text of a tick: `0.5`, `5e-4` or `200k`, and zero as 0."""
    return f"datum.value === 0 ? '0' : format(datum.value, '{form}')"


def _hover(form: str) -> dict[str, Any]:
    """A dot at the nearest point, with its values."""
    near = {"type": "point", "on": "pointerover", "clear": "pointerout", "nearest": True}
    show = {"condition": {"param": "near", "empty": False, "value": 1}, "value": 0}
    values = [
        {"field": "run", "type": "nominal", "title": "run"},
        {"field": "stage", "type": "nominal", "title": "stage"},
        {"field": "y", "type": "quantitative", "title": "value", "format": f".4~{form}"},
        {"field": "samples", "type": "quantitative", "title": "samples", "format": ",.0f"},
        {"field": "time", "type": "quantitative", "title": "time", "format": ".2~f"},
        {"field": "flops", "type": "quantitative", "title": "FLOPs", "format": ".3~s"},
    ]
    return {
        "params": [{"name": "near", "select": near}],
        "mark": {"type": "point", "filled": True, "size": 70},
        "encoding": {"opacity": show, "tooltip": values},
    }


def _axes(unit: str, data: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The x axes to choose from; each is the same in all charts."""
    axes = {
        "samples": ("samples trained on", "~s"),
        "time": (f"training time, {unit} (compilation included, evaluation not)", "~f"),
        "flops": ("training FLOPs (the model's own)", "~s"),
    }
    shown = {}
    for field, (title, form) in axes.items():
        values = [row[field] for rows in data.values() for row in rows if row[field] is not None]
        if values:
            shown[field] = {
                "field": field,
                "type": "quantitative",
                "title": title,
                "scale": {"domain": [0, max(values)], "nice": False},
                "axis": {"labelExpr": _label(form)},
            }
    return shown


def _rows(runs: Sequence[Run], metric: str, seconds: float) -> list[dict[str, Any]]:
    rows = []
    for run in runs:
        for curve in curves.of_run(run, metric):
            series = curve.name if len(runs) == 1 else run.label
            rows += _curve(curve, metric, seconds, {"run": run.label, "series": series})
    return rows


def _curve(
    curve: curves.Curve, metric: str, seconds: float, names: dict[str, str]
) -> list[dict[str, Any]]:
    """The points of a stage as rows of the chart's data; `seconds` is the unit of time."""
    times = 100 if "/" in metric and is_share(metric) else 1
    return [
        {
            "samples": point.samples,
            "time": _digits(point.seconds / seconds),
            "flops": _digits(point.flops),
            "y": _digits(point.value * times),
            "stage": curve.name,
            "alone": len(curve.points) == 1,
            **names,
        }
        for point in curves.thinned(curve.points)
    ]


def _digits(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")

"""Figures of a finished run: accuracy against time, a sheet of held-out pictures, a table.

The colors are those of Okabe and Ito, distinct with any color vision; no information is in the
color alone.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from clipa_jax.evaluation.held_out import Example
from clipa_jax.report import curves
from clipa_jax.runs import Run
from clipa_jax.runtime import files, format
from clipa_jax.runtime.files import Path, PathLike
from clipa_jax.training.headlines import HEADLINES

STAGE_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")
COMPARISON_COLOR = "#555555"
RIGHT_COLOR, WRONG_COLOR = "#0072B2", "#C9CED3"
INK, FAINT = "#1B1F23", "#6A737D"
DPI = 160


def accuracy_against_time(
    run: Run, out: PathLike, compare: curves.Comparison | None = None
) -> Path:
    """Draws the headline score of a finished run against training time into a PNG.

    Raises `DataError` if it has none.
    """
    own = curves.of_headline(run)
    figure = Figure(figsize=(9, 5.2), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    ends = [] if compare is None else [_draw_comparison(axes, compare)]
    ends.append(_draw_stages(axes, own))
    _label_ends(axes, ends)
    _style(axes, _score_label(run))
    _label_stages(figure, axes, own)
    return save(figure, out)


def save(figure: Figure, out: PathLike, **options: Any) -> Path:
    """Writes a figure as PNG; returns its path."""
    picture = io.BytesIO()
    figure.savefig(picture, **options)
    files.write_bytes(out, picture.getvalue())
    return Path(out)


def _score_label(run: Run) -> str:
    """The headline score with its split: `zero_shot, top-1 on heldout_vendor`."""
    evaluator, _, metric = (run.watched or "").partition("/")
    split = run.last_evaluated.evals.get(evaluator, {}).get("split")
    name = f"{evaluator}, {metric.replace('top1', 'top-1')}"
    return f"{name} on {split}" if split else name


def _draw_stages(axes: Axes, own: Sequence[curves.Curve]) -> tuple[float, float, str]:
    """Draws each stage in its color; returns the last point and its color."""
    end: list[curves.Point] = []
    end_color = STAGE_COLORS[0]
    for index, curve in enumerate(own):
        color = STAGE_COLORS[index % len(STAGE_COLORS)]
        axes.axvspan(curve.start / 60, curve.stop / 60, color=color, alpha=0.06, lw=0)
        if index:
            axes.axvline(curve.start / 60, color=FAINT, lw=0.8, ls=(0, (1, 3)))
        if curve.points:
            axes.plot(*_percents_by_minute(end + curve.points), color=color, lw=2.2, zorder=4)
            dots: dict[str, Any] = {"color": color, "ms": 4.5, "mec": "white", "zorder": 5}
            axes.plot(*_percents_by_minute(curve.points), "o", **dots)
            end, end_color = curve.points[-1:], color
    return end[0].seconds / 60, 100 * end[0].value, end_color


def _percents_by_minute(points: Sequence[curves.Point]) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.asarray([point.seconds for point in points]) / 60,
        100 * np.asarray([point.value for point in points]),
    )


def _draw_comparison(axes: Axes, other: curves.Comparison) -> tuple[float, float, str]:
    points = [point for curve in other.curves for point in curve.points]
    minutes, percent = _percents_by_minute(points)
    style: dict[str, Any] = {"color": COMPARISON_COLOR, "lw": 1.8, "ls": (0, (4, 2)), "marker": "s"}
    axes.plot(minutes, percent, mec="white", ms=4, label=other.label, zorder=3, **style)
    return float(minutes[-1]), float(percent[-1]), COMPARISON_COLOR


def _label_ends(axes: Axes, ends: Sequence[tuple[float, float, str]]) -> None:
    """Writes the last value beside each curve, without overlaps."""
    top = max(percent for _, percent, _ in ends)
    apart = 0.055 * max(top, 1e-6)
    last = -np.inf
    for minutes, percent, color in sorted(ends, key=lambda end: end[1]):
        at = last = max(percent, last + apart)
        style: dict[str, Any] = {"color": color, "fontweight": "bold", "fontsize": 10}
        style |= {"va": "center", "textcoords": "offset points", "annotation_clip": False}
        axes.annotate(f"{percent:.1f} %", (minutes, at), xytext=(8, 0), **style)


def _style(axes: Axes, ylabel: str) -> None:
    axes.set_xlabel("training time, minutes (compilation included, evaluation not)", color=INK)
    axes.set_ylabel(f"{ylabel}, %", color=INK)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.02)
    plain_axes(axes, labelsize=9)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc="upper left", bbox_to_anchor=(0, -0.13), frameon=False, fontsize=9, labelcolor=INK
        )


def plain_axes(axes: Axes, labelsize: float) -> None:
    """Removes lines of the axes that carry no information."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=labelsize)
    axes.grid(axis="y", color="#E1E4E8", lw=0.7)
    axes.set_axisbelow(True)


def _label_stages(figure: Figure, axes: Axes, own: Sequence[curves.Curve]) -> None:
    """Writes names and tokens above the stages, in as many rows as needed without overlaps."""
    labels: list[Text] = []
    for index, curve in enumerate(own):
        labels.append(
            axes.text(
                curve.start / 60,
                1.02,
                f"{curve.name}\n{curve.image_tokens} image, {curve.text_tokens} text tokens",
                transform=axes.get_xaxis_transform(),
                color=STAGE_COLORS[index % len(STAGE_COLORS)],
                fontsize=9,
                fontweight="bold",
                va="bottom",
                linespacing=1.25,
            )
        )
    figure.canvas.draw()  # the layout is known only after drawing
    row_ends: list[float] = []
    right_edge = axes.get_window_extent().x1
    for label in labels:
        if label.get_window_extent().x1 > right_edge:
            label.set_x(axes.get_xlim()[1])
            label.set_horizontalalignment("right")
        box = label.get_window_extent()
        free = [row for row, end in enumerate(row_ends) if end + 12 < box.x0]
        row = free[0] if free else len(row_ends)
        row_ends[row : row + 1] = [box.x1]
        label.set_y(1.02 + row * 1.25 * box.height / axes.get_window_extent().height)


def top5_sheet(
    image_NRRC: np.ndarray,
    shown: Sequence[Example],
    num_captions: int,
    out: PathLike,
    *,
    title: str = "Held-out pictures and their five most probable captions",
    columns: int = 3,
) -> Path:
    """Draws pictures with their top five captions and probabilities, the right one marked.

    `image_NRRC` are uint8 pictures; `shown` as in `held_out.HeldOut`, chosen from `num_captions`.
    """
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(4.5 * columns, 1.75 * rows + 0.75), dpi=DPI)
    FigureCanvasAgg(figure)
    height = figure.get_size_inches()[1]
    correct = sum(example["place"] == 1 for example in shown)
    heading: dict[str, Any] = {"ha": "left", "va": "top", "x": 0.12 / columns}
    figure.text(s=title, y=1 - 0.14 / height, fontsize=13, fontweight="bold", color=INK, **heading)
    subtitle = (
        f"among {num_captions:,} captions; \u2713 and the dark bar mark the right one; "
        f"{correct} of {len(shown)} come first"
    )
    figure.text(s=subtitle, y=1 - 0.42 / height, fontsize=9.5, color=FAINT, **heading)
    grid = figure.add_gridspec(
        rows,
        3 * columns - 1,
        width_ratios=([1.45, 3.05, 0.12] * columns)[:-1],
        left=0.1 / columns,
        right=1 - 0.1 / columns,
        top=1 - 0.75 / height,
        bottom=0.06 / height,
        wspace=0.06,
        hspace=0.1,
    )
    look: dict[str, Any] = {"interpolation": "lanczos", "interpolation_stage": "rgba"}
    for index, example in enumerate(shown):
        row, column = divmod(index, columns)
        picture = figure.add_subplot(grid[row, 3 * column])
        picture.imshow(image_NRRC[example["picture"]], **look)
        picture.set_axis_off()
        _draw_top5(figure.add_subplot(grid[row, 3 * column + 1]), example)
    return save(figure, out, facecolor="white")


def _draw_top5(axes: Axes, example: Example) -> None:
    for line, guess in enumerate(example["top"]):
        color = RIGHT_COLOR if guess["right"] else WRONG_COLOR
        axes.barh(line + 0.3, guess["share"], height=0.16, color=color, left=0, zorder=2)
        axes.barh(line + 0.3, 1, height=0.16, color="#F1F3F5", left=0, zorder=1)
        style: dict[str, Any] = {"fontsize": 8.5, "va": "center", "parse_math": False}
        style |= {"fontweight": "bold" if guess["right"] else "normal"}
        style |= {"color": RIGHT_COLOR if guess["right"] else INK}
        name = f"\u2713 {guess['caption']}" if guess["right"] else guess["caption"]
        label = axes.text(0, line - 0.08, name, **style)
        axes.text(1, line - 0.08, format.percent(guess["share"]), ha="right", **style)
        _shorten(label, axes)
    if not any(guess["right"] for guess in example["top"]):
        share = format.percent(example["share"])
        note = f"right: {example['right']}, place {example['place']:,} at {share}"
        style = {"fontsize": 7.5, "va": "center", "color": FAINT, "parse_math": False}
        _shorten(axes.text(0, 4.85, note, fontstyle="italic", **style), axes, room=1.0)
    axes.set_xlim(0, 1)
    axes.set_ylim(5.15, -0.55)
    axes.set_axis_off()


def _shorten(label: Text, axes: Axes, room: float = 0.8) -> None:
    """Shortens a label that is wider than its share of the axes, with an ellipsis."""
    limit, full = room * axes.get_window_extent().width, label.get_text()
    keep = len(full)
    while keep > 1 and label.get_window_extent().width > limit:
        keep -= 1
        label.set_text(full[:keep].rstrip(" ,") + "\u2026")


def stage_table(stages: Sequence[Mapping[str, Any]]) -> str:
    """A text table of the stages in summary.json: tokens, samples, time and headline scores."""
    scores = ("top-1 %", "top-5 %", "i2t R@1 %", "t2i R@1 %")
    header = ("stage", "image tokens", "text tokens", "samples", "time", *scores)
    rows: list[format.Row] = [header]
    for stage in stages:
        tokens = str(stage["image_tokens"]), str(stage["text_tokens"])
        costs = format.count(stage["samples_seen"]), format.clock(stage["seconds"])
        values = (format.percent(stage.get(key), none="-").removesuffix(" %") for key in HEADLINES)
        rows.append((stage["name"], *tokens, *costs, *values))
    return format.table(rows, right=range(1, len(header)))

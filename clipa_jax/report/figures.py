"""What a finished run shows: accuracy against time, held-out pictures, a table.

Colours are Okabe and Ito's, told apart with any colour vision; nothing is said by colour alone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from clipa_jax.report import curves
from clipa_jax.report.curves import PathLike
from clipa_jax.report.held_out import Shown
from clipa_jax.runtime.terminal import clock, table

STAGE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")
COMPARISON_COLOUR = "#555555"
RIGHT_COLOUR, WRONG_COLOUR = "#0072B2", "#C9CED3"
INK, FAINT = "#1B1F23", "#6A737D"
DPI = 160


def accuracy_against_time(
    workdir: PathLike,
    out: PathLike,
    *,
    compare: PathLike | None = None,
    recorded: PathLike | None = None,
    metric: str = "zero_shot/top1",
    ylabel: str = "zero-shot top-1 on the held-out vendor",
) -> Path:
    """Draws accuracy against wall time across the stages of a run, beside another run's.

    Args:
      workdir: of the staged run: summary.json and <stage>/metrics.jsonl.
      out: the PNG to write.
      compare: workdir of the run at full resolution from the start; used if it is finished.
      recorded: else this curve (`save_curve`) is drawn, and the label says so.
      metric: name in metrics.jsonl, a share in [0, 1].
      ylabel: what the metric is.

    Returns:
      `out`.
    """
    curve = curves.read_curve(workdir, metric)
    figure = Figure(figsize=(9, 5.2), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    ends = []
    if compare is not None and (Path(compare) / "summary.json").exists():
        other, origin = curves.read_curve(compare, metric), "run on this machine"
        ends.append(_draw_comparison(axes, other, origin))
    elif recorded is not None and Path(recorded).exists():
        other = curves.load_curve(recorded)
        ends.append(_draw_comparison(axes, other, f"recorded: {other.note}".rstrip(": ")))
    ends.append(_draw_stages(axes, curve))
    _label_ends(axes, ends)
    _style(axes, ylabel)
    _label_stages(figure, axes, curve)
    figure.savefig(out)
    return Path(out)


def _draw_stages(axes: Axes, curve: curves.Curve) -> tuple[float, float, str]:
    """One colour a stage; returns the last point and its colour."""
    previous: list[tuple[float, float]] = []
    end_colour = STAGE_COLOURS[0]
    for index, segment in enumerate(curve.segments):
        colour = STAGE_COLOURS[index % len(STAGE_COLOURS)]
        axes.axvspan(segment.start / 60, segment.stop / 60, color=colour, alpha=0.06, lw=0)
        if index:
            axes.axvline(segment.start / 60, color=FAINT, lw=0.8, ls=(0, (1, 3)))
        if not segment.points:
            continue
        seconds, share = np.asarray(previous + segment.points).T
        axes.plot(seconds / 60, 100 * share, color=colour, lw=2.2, zorder=4)
        own = np.asarray(segment.points)
        axes.plot(own[:, 0] / 60, 100 * own[:, 1], "o", color=colour, ms=4.5, mec="white", zorder=5)
        previous, end_colour = segment.points[-1:], colour
    return previous[0][0] / 60, 100 * previous[0][1], end_colour


def _draw_comparison(axes: Axes, curve: curves.Curve, origin: str) -> tuple[float, float, str]:
    points = np.asarray([point for segment in curve.segments for point in segment.points])
    tokens = curve.segments[-1]
    label = (
        f"full resolution from the start, {tokens.image_tokens} image and "
        f"{tokens.text_tokens} text tokens ({origin})"
    )
    minutes, percent = points[:, 0] / 60, 100 * points[:, 1]
    style: dict[str, Any] = {
        "color": COMPARISON_COLOUR,
        "lw": 1.8,
        "ls": (0, (4, 2)),
        "marker": "s",
        "ms": 4,
    }
    axes.plot(minutes, percent, mec="white", label=label, zorder=3, **style)
    return float(minutes[-1]), float(percent[-1]), COMPARISON_COLOUR


def _label_ends(axes: Axes, ends: Sequence[tuple[float, float, str]]) -> None:
    """The last value beside each curve, the labels kept apart."""
    top = max(percent for _, percent, _ in ends)
    apart = 0.055 * max(top, 1e-6)
    last = -np.inf
    for minutes, percent, colour in sorted(ends, key=lambda end: end[1]):
        at = last = max(percent, last + apart)
        axes.annotate(
            f"{percent:.1f} %",
            (minutes, at),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontweight="bold",
            fontsize=10,
            annotation_clip=False,
        )


def _style(axes: Axes, ylabel: str) -> None:
    axes.set_xlabel("training time, minutes (compilation included, evaluation not)", color=INK)
    axes.set_ylabel(f"{ylabel}, %", color=INK)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.02)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(axis="y", color="#E1E4E8", lw=0.7)
    axes.set_axisbelow(True)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc="upper left", bbox_to_anchor=(0, -0.13), frameon=False, fontsize=9, labelcolor=INK
        )


def _label_stages(figure: Figure, axes: Axes, curve: curves.Curve) -> None:
    """Names and tokens above the stages, in as many rows as keep the labels apart."""
    labels: list[Text] = []
    for index, segment in enumerate(curve.segments):
        labels.append(
            axes.text(
                segment.start / 60,
                1.02,
                f"{segment.name}\n{segment.image_tokens} image, {segment.text_tokens} text tokens",
                transform=axes.get_xaxis_transform(),
                color=STAGE_COLOURS[index % len(STAGE_COLOURS)],
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
    shown: Sequence[Shown],
    num_captions: int,
    out: PathLike,
    *,
    title: str = "Held-out pictures and their five most probable captions",
    columns: int = 3,
) -> Path:
    """Draws pictures with their top five captions and probabilities, the right one marked.

    Args:
      image_NRRC: uint8 pictures, to which `shown` points.
      shown: what was said of N of them.
      num_captions: among which each was sought.
      out: the PNG to write.
      title: above the sheet.
      columns: of pictures.

    Returns:
      `out`.
    """
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(4.5 * columns, 1.75 * rows + 0.75), dpi=DPI)
    FigureCanvasAgg(figure)
    height = figure.get_size_inches()[1]
    found = sum(one.place == 1 for one in shown)
    heading: dict[str, Any] = {"ha": "left", "va": "top", "x": 0.12 / columns}
    figure.text(s=title, y=1 - 0.14 / height, fontsize=13, fontweight="bold", color=INK, **heading)
    subtitle = (
        f"among {num_captions:,} captions; \u2713 and the dark bar mark the right one; "
        f"{found} of {len(shown)} come first"
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
    for index, one in enumerate(shown):
        row, column = divmod(index, columns)
        picture = figure.add_subplot(grid[row, 3 * column])
        picture.imshow(image_NRRC[one.picture], interpolation="lanczos", interpolation_stage="rgba")
        picture.set_axis_off()
        bars = figure.add_subplot(grid[row, 3 * column + 1])
        _draw_top5(bars, one)
    figure.savefig(out, facecolor="white")
    return Path(out)


def _draw_top5(axes: Axes, one: Shown) -> None:
    for line, guess in enumerate(one.top):
        colour = RIGHT_COLOUR if guess.right else WRONG_COLOUR
        axes.barh(line + 0.3, guess.share, height=0.16, color=colour, left=0, zorder=2)
        axes.barh(line + 0.3, 1, height=0.16, color="#F1F3F5", left=0, zorder=1)
        style: dict[str, Any] = {"fontsize": 8.5, "va": "center", "parse_math": False}
        style |= {"fontweight": "bold" if guess.right else "normal"}
        style |= {"color": RIGHT_COLOUR if guess.right else INK}
        name = f"\u2713 {guess.caption}" if guess.right else guess.caption
        label = axes.text(0, line - 0.08, name, **style)
        axes.text(1, line - 0.08, f"{100 * guess.share:.1f} %", ha="right", **style)
        _shorten(label, axes)
    if not any(guess.right for guess in one.top):
        note = f"right: {one.right}, place {one.place:,} at {100 * one.share:.1f} %"
        style = {"fontsize": 7.5, "va": "center", "color": FAINT, "parse_math": False}
        _shorten(axes.text(0, 4.85, note, fontstyle="italic", **style), axes, room=1.0)
    axes.set_xlim(0, 1)
    axes.set_ylim(5.15, -0.55)
    axes.set_axis_off()


def _shorten(label: Text, axes: Axes, room: float = 0.8) -> None:
    """Cuts a label that is wider than its share of the axes, with an ellipsis."""
    limit, full = room * axes.get_window_extent().width, label.get_text()
    keep = len(full)
    while keep > 1 and label.get_window_extent().width > limit:
        keep -= 1
        label.set_text(full[:keep].rstrip(" ,") + "\u2026")


def stage_table(summary: Any) -> str:
    """A text table of a run: tokens, samples, time and accuracy of each stage.

    Args:
      summary: the content of summary.json.
    """
    header = (
        "stage",
        "image tokens",
        "text tokens",
        "samples",
        "time",
        "top-1 %",
        "top-5 %",
        "i2t R@1 %",
        "t2i R@1 %",
    )
    shares = ("zero_shot_top1", "zero_shot_top5", "retrieval_i2t_r1", "retrieval_t2i_r1")
    rows: list[tuple[str, ...]] = [header]
    for stage in curves.stages(summary):
        rows.append(
            (
                stage["name"],
                str(stage["image_tokens"]),
                str(stage["text_tokens"]),
                f"{stage['samples_seen']:,}",
                clock(stage["seconds"]),
                *(_percent(stage.get(share)) for share in shares),
            )
        )
    return table(rows, right=tuple(range(1, len(header))))


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"

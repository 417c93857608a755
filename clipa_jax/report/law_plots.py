"""Plots of the inverse scaling law: drops by reduction, and scores against training FLOPs."""

from typing import Any

from matplotlib.lines import Line2D

from clipa_jax.report import sweep_plots, sweep_text
from clipa_jax.report.groups import Estimate
from clipa_jax.report.scaling import FULL_LENGTH, IMAGE, TEXT, Law, Point
from clipa_jax.runtime.files import Path

FULL_MARKER = "*"


def drops(law: Law, side: str, out: Path, note: str = "") -> Path:
    """The drop against tokens: a panel for each reduction, a line for each size, a note below."""
    cells = law.of_side(side)
    reductions, counts = law.reductions(side), {cell.tokens for cell in cells}
    width = max(2.7 * len(reductions) + 0.8, 5.5)
    figure, panels = sweep_plots.sheet(len(reductions), height=3.7, width=width)
    unit = "nats" if sweep_text.is_loss(law.metric) else "points"
    verb = "rise of" if sweep_text.is_loss(law.metric) else "drop in"
    for axes, reduction in zip(panels, reductions, strict=True):
        same = [cell for cell in cells if cell.reduction == reduction]
        axes.axhline(0, color=sweep_plots.FAINT, lw=0.9)
        for index, size in enumerate(law.sizes):
            all_drops = [(cell.tokens, cell.drop(size)) for cell in same]
            points = [(float(tokens), drop) for tokens, drop in all_drops if drop is not None]
            if points:
                # A little apart, so that bars do not hide each other.
                shift = 1 + 0.025 * (index - (len(law.sizes) - 1) / 2)
                points = [(tokens * shift, drop) for tokens, drop in points]
                sweep_plots.line(axes, points, law.metric, index, size)
        first = f"{verb} {law.metric}, {unit}" if axes is panels[0] else ""
        sweep_plots.style(axes, f"{side} tokens in training", first)
        axes.set_xscale("log", base=2)
        axes.set_xlim(1.4 * max(counts), min(counts) / 1.4)  # fewer tokens to the right
        sweep_plots.ticks_at(axes, sorted({float(cell.tokens) for cell in same}))
        axes.set_title(reduction, fontsize=10, color=sweep_plots.INK)
    panels[0].legend(frameon=False, fontsize=8, labelcolor=sweep_plots.INK)
    return sweep_plots.finish(figure, out, note)


def against_flops(law: Law, out: Path, note: str = "") -> Path:
    """The score against training FLOPs: a color per size, a marker per reduction."""
    sides = [side for side in (IMAGE, TEXT) if law.of_side(side)]
    figure, panels = sweep_plots.sheet(len(sides), height=4.2, width=4.6 * len(sides) + 1.6)
    for axes, side in zip(panels, sides, strict=True):
        markers = dict(zip(law.reductions(side), sweep_plots.MARKERS[1:], strict=False))
        for index, size in enumerate(law.sizes):
            color = sweep_plots.COLORS[index]
            full = _at(law, law.full(side, size))
            for reduction, marker in markers.items():
                cells = [cell for cell in law.of_side(side) if cell.reduction == reduction]
                cuts = [[cut for _, cut in c.pairs.get(size, {}).values()] for c in cells]
                joined = [full, *(_at(law, cut) for cut in cuts)]
                drawn = [point for point in joined if point]
                sweep_plots.line(axes, drawn, law.metric, index, color=color, marker=marker, lw=0.8)
            if full:
                how: dict[str, Any] = {"marker": FULL_MARKER, "ms": 13, "zorder": 5}
                sweep_plots.line(axes, [full], law.metric, index, color=color, **how)
        sweep_plots.log_axis(axes)
        first = sweep_plots.score_label(law.metric) if axes is panels[0] else ""
        sweep_plots.style(axes, "training FLOPs, all stages", first)
        axes.set_title(f"fewer {side} tokens", fontsize=10, color=sweep_plots.INK)
        faint: dict[str, Any] = {"color": sweep_plots.FAINT, "lw": 0}
        markers[FULL_LENGTH] = FULL_MARKER
        keys = [Line2D([], [], marker=m, label=name, **faint) for name, m in markers.items()]
        for color, size in zip(sweep_plots.COLORS, law.sizes, strict=False):
            keys.append(Line2D([], [], color=color, lw=3, label=size))
        look: dict[str, Any] = {"frameon": False, "fontsize": 7.5, "labelcolor": sweep_plots.INK}
        # Beside the panel, not over points.
        axes.legend(handles=keys, loc="upper left", bbox_to_anchor=(1.0, 1.0), **look)
    return sweep_plots.finish(figure, out, note)


def _at(law: Law, repeats: list[Point]) -> tuple[float, Estimate] | None:
    """(FLOPs, score) of repeats; None without repeats, or where their FLOPs are unknown."""
    score = law.score(repeats)
    flops = [cost for point in repeats if (cost := point.row.costs["total_flops"]) is not None]
    if score is None or len(flops) < len(repeats):
        return None
    return sum(flops) / len(flops), score

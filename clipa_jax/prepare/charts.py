"""Charts of a dataset: histograms, and samples as the model sees them.

R pixels a side, L text tokens.
"""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clipa_jax.prepare.source_statistics import Statistics
from clipa_jax.preprocess.text import Tokenizer
from clipa_jax.report.figures import DPI, INK, STAGE_COLORS, plain_axes

BAR, LIMIT = STAGE_COLORS[0], STAGE_COLORS[1]
_BINS, _LONGEST = 40, 5.0


def histograms(statistics: Statistics, out: str, *, res: int, text_len: int) -> None:
    """Draws picture sizes and caption lengths with the limits of the config: pixels, tokens.

    There must be at least one good sample.
    """
    size_N2 = np.array(statistics.size_N2)
    short_N, long_N = size_N2.min(1), size_N2.max(1)
    figure = Figure(figsize=(11, 3.4), dpi=DPI, layout="constrained")
    sides, aspects, lengths = figure.subplots(1, 3)
    _bars(sides, short_N, 0, "short side, pixels")
    _limit(sides, res, f"training: {res} px")
    _bars(aspects, np.minimum(long_N / short_N, _LONGEST), 1, "long side / short side (5: or more)")
    if statistics.pieces_M:
        _lengths(lengths, np.array(statistics.pieces_M), text_len - 1)
    else:
        lengths.set_axis_off()
    sides.set_ylabel("samples", color=INK)
    figure.savefig(out)


def _lengths(axes: Axes, pieces_M: np.ndarray, budget: int) -> None:
    top = max(int(np.quantile(pieces_M, 0.995)), budget + 1)
    shown = np.minimum(pieces_M, top)
    wide = max(-(-top // _BINS), 1)
    edges = np.arange(0, top + wide + 1, wide) - 0.5
    fits = shown <= budget
    for values, color in ((shown[fits], BAR), (shown[~fits], LIMIT)):
        axes.hist(values, bins=edges.tolist(), color=color, edgecolor="white", linewidth=0.4)
    axes.set_xlabel(f"pieces of a caption ({top}: or more)", color=INK)
    plain_axes(axes, labelsize=8)
    percent = 100 * float((~fits).mean())
    _limit(axes, budget + 0.5, f"budget: {budget}; {percent:.1f} % are longer")


def _bars(axes: Axes, value_N: np.ndarray, minimum: float, label: str) -> None:
    edges = np.linspace(minimum, max(float(value_N.max()), minimum + 1) * 1.001, _BINS + 1)
    axes.hist(value_N, bins=edges.tolist(), color=BAR, edgecolor="white", linewidth=0.4)
    axes.set_xlabel(label, color=INK)
    plain_axes(axes, labelsize=8)


def _limit(axes: Axes, value: float, label: str) -> None:
    axes.axvline(value, color=LIMIT, lw=1.5)
    axes.set_title(label, color=LIMIT, fontsize=9, fontweight="bold", loc="left")


def contact_sheet(
    image_NRRC: np.ndarray, texts: Sequence[str], out: str, *, title: str, columns: int = 6
) -> None:
    """Draws augmented training samples, uint8, with their captions as the model reads them."""
    rows = -(-len(image_NRRC) // columns)
    figure = Figure(figsize=(1.9 * columns, 2.5 * rows + 0.5), dpi=DPI)
    height = figure.get_size_inches()[1]
    heading: dict[str, Any] = {"ha": "left", "va": "top", "fontweight": "bold", "color": INK}
    figure.text(0.1 / columns, 1 - 0.12 / height, title, fontsize=11, **heading)
    sides = {"left": 0.08 / columns, "right": 1 - 0.08 / columns}
    figure.subplots_adjust(
        **sides, top=1 - 0.45 / height, bottom=0.6 / height, wspace=0.06, hspace=0.32
    )
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for axes, image, text in zip(grid.ravel(), image_NRRC, texts, strict=False):
        axes.imshow(image, interpolation="nearest")
        lines = textwrap.wrap(text, 30, max_lines=3, placeholder=" \u2026") or ["(no text)"]
        style = {"fontsize": 7.5, "color": INK, "va": "top", "parse_math": False}
        axes.text(0, 1.02, "\n".join(lines), transform=axes.transAxes, **style).set_y(-0.03)
    figure.savefig(out, facecolor="white")


def kept_text(tokenizer: Tokenizer, token_L: np.ndarray) -> str:
    """The words of a row of ids, without special pieces."""
    words: list[str] = []
    vocabulary, ended = tokenizer.vocabulary, True
    for token in token_L.tolist():
        surface = vocabulary.surfaces[token]
        if token in (vocabulary.pad_id, vocabulary.cls_id, vocabulary.end_id):
            continue
        surface = surface or "\N{REPLACEMENT CHARACTER}"  # no piece covers it
        if not words or (ended and vocabulary.starts_word[token]):
            words.append(surface)
        else:
            words[-1] += surface
        ended = vocabulary.ends_word is None or vocabulary.ends_word[token]
    return " ".join(words)

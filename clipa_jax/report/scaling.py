"""The inverse scaling law: the drop in score with fewer tokens, by size of the towers.

CLIPA (arXiv 2305.07017) says: the larger the towers, the smaller the drop. A drop is the score of
the run at full length less that of the run with fewer tokens, of the same size and seed; for a
loss, its increase. Image and text tokens are analyzed separately.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from clipa_jax.errors import DataError
from clipa_jax.evaluation import comparability
from clipa_jax.report import groups, sweep_text
from clipa_jax.report.groups import Estimate
from clipa_jax.report.rows import Row, varying

IMAGE, TEXT = "image", "text"
FULL_LENGTH = "full length"


class Point(NamedTuple):
    """A run of the law: its towers, and the reduction and number of patches and of text tokens."""

    size: str
    seed: Any
    image: tuple[str, int]
    text: tuple[str, int]
    row: Row


class Cell(NamedTuple):
    """One reduction to so many tokens of a side; pairs (run at full length, run with these tokens)
    by size and seed.
    """

    metric: str
    side: str
    reduction: str
    tokens: int
    pairs: dict[str, dict[Any, tuple[Point, Point]]]

    def drops(self, size: str) -> dict[Any, float]:
        """By seed."""
        sign = -1 if sweep_text.is_loss(self.metric) else 1
        return {
            seed: sign * (full.row.scores[self.metric] - cut.row.scores[self.metric])
            for seed, (full, cut) in self.pairs.get(size, {}).items()
        }

    def drop(self, size: str) -> Estimate | None:
        """Mean over the seeds; None where no seed is finished."""
        values = list(self.drops(size).values())
        return Estimate.of(values) if values else None

    def by_seed(self, sizes: Sequence[str]) -> dict[Any, list[float]]:
        """The drops of some sizes, for the seeds that all of them have."""
        drops = [self.drops(size) for size in sizes]
        return {
            seed: [d[seed] for d in drops] for seed in drops[0] if all(seed in d for d in drops)
        }

    def left(self, size: str) -> str:
        """` (80 %)`: what is left of the score at full length; "" for losses."""
        pairs = self.pairs.get(size, {}).values()
        full = sum(full.row.scores[self.metric] for full, _ in pairs)
        if sweep_text.is_loss(self.metric) or not full:
            return ""
        return f" ({sum(cut.row.scores[self.metric] for _, cut in pairs) / full:.0%})"


class Law(NamedTuple):
    """All cells by side and reduction, most tokens first; sizes of towers, smallest first."""

    metric: str
    sizes: tuple[str, ...]
    cells: tuple[Cell, ...]

    def of_side(self, side: str) -> list[Cell]:
        return [cell for cell in self.cells if cell.side == side]

    def reductions(self, side: str) -> list[str]:
        return list(dict.fromkeys(cell.reduction for cell in self.of_side(side)))

    def full(self, side: str, size: str) -> list[Point]:
        """The runs at full length that the drops of a side are from."""
        pairs = [pair for cell in self.of_side(side) for pair in cell.pairs.get(size, {}).values()]
        return list({full.row.run: full for full, _ in pairs}.values())

    def score(self, points: Sequence[Point]) -> Estimate | None:
        """The estimate over repeats; None without any."""
        return Estimate.of([p.row.scores[self.metric] for p in points]) if points else None

    def signal_to_noise(self) -> float | None:
        """The drops over their scatter by seed, root mean squares over cells and sizes.

        None where no drop has two seeds.
        """
        drops = [list(cell.drops(size).values()) for cell in self.cells for size in self.sizes]
        repeated = [values for values in drops if len(values) > 1]
        if not repeated:
            return None
        noise = float(np.mean([np.var(values, ddof=1) for values in repeated])) ** 0.5
        signal = float(np.mean([np.mean(values) ** 2 for values in repeated])) ** 0.5
        return signal / noise if noise else None

    def contrast(self, cells: Iterable[Cell]) -> Estimate | None:
        """Drop of the largest towers less that of the smallest, over `cells`, by seed.

        The law predicts a negative value. Each seed gives one number, the mean over the cells that
        have it in both sizes, since the drops of a seed share the run at full length.
        """
        ends = (self.sizes[0], self.sizes[-1])
        return _over_seeds([{s: b - a for s, (a, b) in c.by_seed(ends).items()} for c in cells])

    def mean_drop(self, cells: Iterable[Cell]) -> Estimate | None:
        """Mean drop over cells and sizes, by seed; cells that lack a size are left out."""
        by_seed = (cell.by_seed(self.sizes) for cell in cells if len(cell.pairs) == len(self.sizes))
        return _over_seeds([{s: float(np.mean(d)) for s, d in drops.items()} for drops in by_seed])


def _over_seeds(cells: Iterable[dict[Any, float]]) -> Estimate | None:
    """The estimate from the mean of each seed over the cells; incomplete seeds are left out."""
    seeds: dict[Any, list[float]] = {}
    for cell in cells:
        for seed, number in cell.items():
            seeds.setdefault(seed, []).append(number)
    most = max(map(len, seeds.values()), default=0)
    values = [float(np.mean(numbers)) for numbers in seeds.values() if len(numbers) == most]
    return Estimate.of(values) if values else None


def read(rows: Sequence[Row], metric: str) -> Law:
    """The law from rows of one stage; `DataError` if they cannot be compared or lack runs."""
    _check_comparable(rows, metric)
    points = [_point(row) for row in rows if metric in row.scores]
    if not points:
        options = sorted({key for row in rows for key in row.scores})
        raise DataError(f"no run has the metric {metric!r}, only {', '.join(options)}")
    whole_image = max(point.image[1] for point in points)
    whole_text = max(point.text[1] for point in points)
    full = {(p.size, p.seed, p.image): p for p in points if p.text[1] == whole_text}
    full_image = {key[:2]: p for key, p in full.items() if p.image[1] == whole_image}
    cells: dict[tuple[str, str, int], Cell] = {}
    for point in points:
        if point.text[1] < whole_text:
            side, cut, origin = TEXT, point.text, full.get((point.size, point.seed, point.image))
        elif point.image[1] < whole_image:
            side, cut, origin = IMAGE, point.image, full_image.get((point.size, point.seed))
        else:
            continue
        if origin is not None:
            cell = cells.setdefault((side, *cut), Cell(metric, side, *cut, {}))
            cell.pairs.setdefault(point.size, {})[point.seed] = (origin, point)
    if not cells:
        raise DataError("no pair of runs, at full length and with fewer tokens, is finished yet")
    parameters = {point.size: point.row.own["num_params"] for point in points}
    order = sorted(cells.values(), key=lambda cell: (cell.side, cell.reduction, -cell.tokens))
    sizes = tuple(sorted(parameters, key=lambda size: parameters[size]))
    return Law(metric, sizes, tuple(order))


def cells(law: Law, side: str) -> sweep_text.Cells:
    """A table of one side: a row for each cell, a column for each size, and their contrast."""
    smallest, largest = law.sizes[0], law.sizes[-1]
    table: sweep_text.Cells = [
        ("reduction", "tokens", *law.sizes, f"{largest} - {smallest} (95 %)")
    ]
    full = (law.score(law.full(side, size)) for size in law.sizes)
    table.append((FULL_LENGTH, "", *(sweep_text.estimate(score, law.metric) for score in full), ""))
    for cell in law.of_side(side):
        drops = (
            sweep_text.estimate(cell.drop(size), law.metric, "+") + cell.left(size)
            for size in law.sizes
        )
        contrast = verdict(law.contrast([cell]), law.metric)
        table.append((cell.reduction, str(cell.tokens), *drops, contrast))
    return table


def summary(law: Law, side: str) -> list[str]:
    """Sentences: the contrast over all cells of a side, and the mean drop of each reduction."""
    cells = law.of_side(side)
    contrast = verdict(law.contrast(cells), law.metric)
    sentences = [
        f"{side}: over all of these, the drop of {law.sizes[-1]} less that of {law.sizes[0]} is "
        f"{contrast}"
    ]
    names = law.reductions(side)
    common = set.intersection(*({c.tokens for c in cells if c.reduction == n} for n in names))
    for name in names:
        same = [c for c in cells if c.reduction == name and c.tokens in common]
        if (mean := law.mean_drop(same)) is not None:
            tokens = ", ".join(str(cell.tokens) for cell in same)
            sentences.append(
                f"{side}, {name}: mean drop {sweep_text.estimate(mean, law.metric, '+')} over all "
                f"sizes at {tokens} tokens"
            )
    return sentences


def verdict(contrast: Estimate | None, metric: str) -> str:
    """The contrast with its interval and its verdict."""
    if contrast is None:
        return "-"
    scale, form = sweep_text.scale_of(metric), "+.3f" if sweep_text.is_loss(metric) else "+.2f"
    if contrast.low is None or contrast.high is None:
        return f"{scale * contrast.mean:{form}} (one seed)"
    says = "smaller" if contrast.high < 0 else "larger" if contrast.low > 0 else "cannot tell"
    interval = f"[{scale * contrast.low:{form}}, {scale * contrast.high:{form}}]"
    return f"{scale * contrast.mean:{form}} {interval} {says}"


def _point(row: Row) -> Point:
    masked = row.first("mask.ratio")
    return Point(
        size=str(row.own.get("model.size")).partition("/")[0],
        seed=row.own.get("seed"),
        # The class token is not a patch.
        image=(row.first("mask.name") if masked else "resize", row.first("image_tokens") - 1),
        text=(row.first("input.reduction"), row.first("text_tokens")),
        row=row,
    )


def _check_comparable(rows: Sequence[Row], metric: str) -> None:
    """Raises `DataError` unless rows differ only in what the law is about."""
    facts = [row.data for row in rows]
    if differ := comparability.differing(facts, groups.owners([metric]), comparability.OF_STAGES):
        raise DataError(
            f"the runs are not comparable ({', '.join(differ)} differ), so their scores do not "
            "make one law; collect them apart"
        )
    stages = sorted({row.stage for row in rows})
    if len(stages) > 1:
        raise DataError(f"runs end with {' and with '.join(stages)}; choose one by --stage")
    samples = sorted({row.costs["total_samples"] or 0 for row in rows})
    if len(samples) > 1:
        raise DataError(
            f"the law compares equal samples, but there are runs of {samples[0]:,.0f} and of "
            f"{samples[-1]:,.0f}; collect them apart"
        )
    for key in varying(rows):
        bare = rows[0].bare(key)
        if bare not in comparability.OF_LAW and comparability.is_setting(bare):
            raise DataError(f"the runs also differ in {key}, so they do not make one law")

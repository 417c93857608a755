"""Searches for the largest batch or the cheapest settings that fit into memory."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from clipa_jax import models
from clipa_jax.config.settings import Settings
from clipa_jax.planning import analytic, workload
from clipa_jax.planning.compiled import Compiled
from clipa_jax.planning.workload import Workload

TRIES = 8  # compilations in a search for a batch, at most
PRESETS = ("dp", "fsdp")
# Numbers of micro-batches to try.
SHARES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Candidate:
    """A stage with changed settings, compiled."""

    work: Workload
    compiled: Compiled


def largest(
    compile_batch: Callable[[int], Compiled], start: int, unit: int, below: bool = False
) -> tuple[int, Compiled] | None:
    """The largest batch that fits, a multiple of `unit`; None if not even one unit does.

    The memory of a step is nearly a constant plus a share of each sample, so a line through
    the results so far gives the next batch to try. With `below`, it stops at `start` if that fits.
    """
    fits: dict[int, Compiled] = {}
    fails: dict[int, Compiled] = {}
    size = max(start // unit, 1)
    for _ in range(TRIES):
        result = compile_batch(size * unit)
        (fits if result.fits else fails)[size] = result
        if below and size * unit >= start and result.fits:
            break
        lowest, highest = max(fits, default=0), min(fails, default=None)
        if highest is not None and highest - lowest <= 1:
            break
        size = _guess({**fits, **fails}, lowest, highest)
    if not fits:
        return None
    best = max(fits)
    return best * unit, fits[best]


def _guess(results: dict[int, Compiled], lowest: int, highest: int | None) -> int:
    """The size to try next: above `lowest`, which fits, and below `highest`, which does not."""
    limit = next(iter(results.values())).memory.limit
    points = sorted((size, result.memory.total) for size, result in results.items())
    nearest = sorted(points, key=lambda point: abs(point[1] - limit))[:2]
    (size, total), *others = nearest
    slope = total / size  # a line through the origin: cautious, for some memory is constant
    if others and others[0][0] != size and others[0][1] != total:
        slope = (others[0][1] - total) / (others[0][0] - size)
    guess = size + int((limit - total) // slope) if slope > 0 else 2 * size
    if highest is None:
        return max(guess, lowest + 1) if guess > lowest else 2 * lowest
    return min(max(guess, lowest + 1), highest - 1)


def cheapest(
    settings: Iterable[Workload], compile_work: Callable[[Workload], Compiled]
) -> tuple[Candidate | None, list[Candidate]]:
    """The first candidate that fits, and all that were compiled; settings come in price order."""
    tried = []
    for work in settings:
        tried.append(Candidate(work, compile_work(work)))
        if tried[-1].compiled.fits:
            return tried[-1], tried
    return None, tried


def settings(work: Workload, num_chips: int, limit: float) -> Iterator[Workload]:
    """Policies, presets and micro-batches for a stage, the fewest FLOPs first.

    Those with an estimated memory of twice the limit or more are left out.
    """
    candidates = [
        _changed(work, remat, preset, share)
        for remat, preset, share in itertools.product(analytic.REMAT, PRESETS, SHARES)
        if work.durations.batch_size % (share * num_chips) == 0
    ]
    # Equal arithmetic: whole parameters before split ones, few micro-batches first.
    candidates.sort(key=lambda c: (analytic.step_flops(c), c.config.sharding.preset != "dp"))
    for candidate in candidates:
        if analytic.memory(candidate, num_chips).total < 2 * limit:
            yield candidate


def with_batch(work: Workload, batch_size: int) -> Workload:
    """The same stage and samples with another batch, so with another number of steps."""
    config = work.config.copy_and_resolve_references()
    config.input.batch_size = batch_size
    if config.microbatch and config.microbatch >= batch_size:
        config.microbatch = None
    return workload.read(config)


def describe(config: Any) -> str:
    """The settings that a search changes, in one line."""
    micro = config.microbatch
    image, text = config.model.image.remat, config.model.text.remat
    return ", ".join(
        [
            f"remat {image}" if image == text else f"remat {image} / {text}",
            config.model.layers,
            config.sharding.preset,
            *([f"micro {micro:,}"] if micro else []),
        ]
    )


def _changed(work: Workload, remat: str, preset: str, share: int) -> Workload:
    config = work.config.copy_and_resolve_references()
    config.model.layers = "scanned"
    config.model.image.remat = config.model.text.remat = remat
    config.sharding.preset = preset
    config.microbatch = work.durations.batch_size // share if share > 1 else None
    return replace(work, config=config, model=models.build(Settings(config.model)))

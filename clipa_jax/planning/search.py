"""Looking for what fits: the largest batch, or the cheapest settings."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from clipa_jax import models
from clipa_jax.config.settings import Settings
from clipa_jax.planning import analytic
from clipa_jax.planning import work as works
from clipa_jax.planning.compiled import Compiled
from clipa_jax.planning.work import Work

TRIES = 8  # compilations that a search for a batch may take
REMAT = ("none", "dots_no_batch", "full")
PRESETS = ("dp", "fsdp")
# Micro-batches to try, as shares of the batch.
SHARES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Found:
    """A result of a search.

    Attributes:
      work: the stage with what was found.
      compiled: what the compiler said of it.
    """

    work: Work
    compiled: Compiled


def largest(
    compile_batch: Callable[[int], Compiled], start: int, unit: int, below: bool = False
) -> tuple[int, Compiled] | None:
    """The largest batch that fits, in units; None if not even one unit does.

    The memory of a step is close to a constant and a share of each sample, so a line
    through what the compiler said so far tells where to look next.

    Args:
      compile_batch: compiles a batch.
      start: the batch to begin with.
      unit: what a batch is a multiple of.
      below: whether batches above `start` are of no interest.
    """
    fits: dict[int, Compiled] = {}
    fails: dict[int, Compiled] = {}
    size = max(start // unit, 1)
    for _ in range(TRIES):
        made = compile_batch(size * unit)
        (fits if made.fits else fails)[size] = made
        if below and size * unit >= start and made.fits:
            break
        lowest, highest = max(fits, default=0), min(fails, default=None)
        if highest is not None and highest - lowest <= 1:
            break
        size = _guess({**fits, **fails}, lowest, highest)
    if not fits:
        return None
    best = max(fits)
    return best * unit, fits[best]


def _guess(seen: dict[int, Compiled], lowest: int, highest: int | None) -> int:
    """The size to try next, strictly between what fits and what does not."""
    limit = next(iter(seen.values())).memory.limit
    points = sorted((size, made.memory.total) for size, made in seen.items())
    nearest = sorted(points, key=lambda point: abs(point[1] - limit))[:2]
    (size, total), *others = nearest
    slope = total / size  # a line through nothing: cautious, for some memory does not grow
    if others and others[0][0] != size and others[0][1] != total:
        slope = (others[0][1] - total) / (others[0][0] - size)
    guess = size + int((limit - total) // slope) if slope > 0 else 2 * size
    if highest is None:
        return max(guess, lowest + 1) if guess > lowest else 2 * lowest
    return min(max(guess, lowest + 1), highest - 1)


def cheapest(
    settings: Iterable[Work], compile_work: Callable[[Work], Compiled]
) -> tuple[Found | None, list[Found]]:
    """The first that fits, of settings in the order of their price; and all that were compiled."""
    tried = []
    for work in settings:
        tried.append(Found(work, compile_work(work)))
        if tried[-1].compiled.fits:
            return tried[-1], tried
    return None, tried


def settings(work: Work, num_chips: int, limit: float) -> Iterator[Work]:
    """Policies, presets and micro-batches for a stage, the fewest FLOPs first.

    Those whose estimated memory is twice the limit or more are left out without compiling.
    """
    made = [
        _changed(work, remat, preset, share)
        for remat, preset, share in itertools.product(REMAT, PRESETS, SHARES)
        if _divides(work.plan.batch_size, share, num_chips)
    ]
    # Of two with the same arithmetic: whole parameters before split ones, few micro-batches first.
    made.sort(key=lambda one: (analytic.step_flops(one), one.config.sharding.preset != "dp"))
    for one in made:
        if analytic.memory(one, num_chips).total < 2 * limit:
            yield one


def with_batch(work: Work, batch_size: int) -> Work:
    """The same stage with another batch; as many samples, so other steps."""
    config = work.config.copy_and_resolve_references()
    config.input.batch_size = batch_size
    if config.get("microbatch") and config.microbatch >= batch_size:
        config.microbatch = None
    return works.read(config)


def describe(config: Any) -> str:
    """The settings that a search changes, in a few words."""
    micro = config.get("microbatch")
    image, text = config.model.image.remat, config.model.text.remat
    return ", ".join(
        [
            f"remat {image}" if image == text else f"remat {image} / {text}",
            config.model.layers,
            config.sharding.preset,
            *([f"micro {micro:,}"] if micro else []),
        ]
    )


def _divides(batch: int, share: int, num_chips: int) -> bool:
    return batch % (share * num_chips) == 0


def _changed(work: Work, remat: str, preset: str, share: int) -> Work:
    config = work.config.copy_and_resolve_references()
    config.model.layers = "scanned"
    config.model.image.remat = config.model.text.remat = remat
    config.sharding.preset = preset
    config.microbatch = work.plan.batch_size // share if share > 1 else None
    return replace(work, config=config, model=models.build(Settings(config.model)))

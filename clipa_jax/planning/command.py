"""The command line of the planner, see tools/plan.py."""

import functools
import json
import os
from collections.abc import Callable
from typing import Any

from absl import flags, logging
from ml_collections import ConfigDict

from clipa_jax.config import schedules
from clipa_jax.errors import ConfigError
from clipa_jax.planning import analytic, chips, compiled, cost, published, report, search, topology
from clipa_jax.planning import work as works
from clipa_jax.planning.work import Work
from clipa_jax.runtime import cli, files
from clipa_jax.runtime.progress import waiting
from clipa_jax.runtime.terminal import clock

CONFIG = cli.define_config()
TOPOLOGY = flags.DEFINE_string("topology", None, "A TPU slice, such as v5e:8x8 or v5p:4x4x4.")
DEVICE = flags.DEFINE_enum("device", None, sorted(chips.CHIPS), "Estimate for these chips.")
CHIPS = flags.DEFINE_integer("chips", 8, "How many of them.", lower_bound=1)
STAGES = flags.DEFINE_list("stages", [], "Names of the stages to plan, all by default.")
SEARCH = flags.DEFINE_enum(
    "search",
    None,
    ["batch", "settings"],
    "Find the largest batch that fits, or the settings with the fewest FLOPs that do.",
)
NEAREST = flags.DEFINE_boolean(
    "nearest", True, "Where a batch does not fit, look for one that does."
)
PRICE = flags.DEFINE_float("price", None, "Dollars for an hour of one chip.", lower_bound=0.0)
EFFICIENCY = flags.DEFINE_float(
    "efficiency", published.EFFICIENCY, "With --device: model FLOPs over the chips' peak."
)
JSON = flags.DEFINE_string("json", None, "Write the plan to this file too; - for the terminal.")
PUBLISHED = flags.DEFINE_boolean("published", False, "Compare with CLIPA's published GPU hours.")


def main(argv: list[str]) -> int | None:
    """Plans the stages of the config; status 1 if one of them does not fit."""
    del argv
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # nothing is computed here
    if PUBLISHED.value:
        residuals = published.compare()
        _show(published.text(residuals), published.as_dict(residuals))
        return None
    if not isinstance(CONFIG.value, ConfigDict):
        raise ConfigError("--config=FILE.py is needed, e.g. configs/model_h/schedule.py")
    if bool(TOPOLOGY.value) == bool(DEVICE.value):
        raise ConfigError("either --topology=v5e:8x8 (compiled) or --device=h200 (estimate)")
    work = [works.read(config) for config in _chosen(CONFIG.value)]
    if TOPOLOGY.value:
        stages, title = _compile(work)
    else:
        stages, title = _estimate(work)
    _show(
        report.text(stages, title),
        {"title": title, "stages": [report.as_dict(stage) for stage in stages]},
    )
    return 1 if any(stage.verdict() for stage in stages) else None


def _chosen(config: ConfigDict) -> list[ConfigDict]:
    """The stages that --stages names, or all."""
    stages = schedules.split(config)
    names = [stage.name for stage in stages]
    for name in STAGES.value:
        if name not in names:
            raise ConfigError(f"--stages={name}: the config has {', '.join(names)}")
    return [stage for stage in stages if stage.name in (STAGES.value or names)]


def _estimate(work: list[Work]) -> tuple[list[report.Stage], str]:
    assert DEVICE.value
    chip = chips.chip(DEVICE.value)
    price = cost.price(chip, PRICE.value)
    stages = [
        report.Stage(
            work=one,
            chip=chip,
            num_chips=CHIPS.value,
            price=price,
            estimate=analytic.estimate(one, chip, CHIPS.value, EFFICIENCY.value),
        )
        for one in work
    ]
    title = (
        f"{CHIPS.value} x {chip.name}, an estimate at {EFFICIENCY.value:.1%} of their peak; "
        f"{_price(price)}"
    )
    return stages, title


def _compile(work: list[Work]) -> tuple[list[report.Stage], str]:
    assert TOPOLOGY.value
    place = topology.find(TOPOLOGY.value)
    price = cost.price(place.chip, PRICE.value)
    stages = []
    progress = _Compiling(place, len(work))
    for index, one in enumerate(work):
        progress.stage = index
        stages.append(_stage(one, place, price, progress))
    title = (
        f"{place.name}: {len(place.devices)} chips, as libtpu {topology.version()} compiles it; "
        f"{_price(price)}"
    )
    return stages, title


def _stage(work: Work, place: topology.Slice, price: cost.Price, compile_: Callable) -> Any:
    """One stage, after the search that was asked for."""
    stage = functools.partial(
        report.Stage, chip=place.chip, num_chips=len(place.devices), price=price
    )
    unit = len(place.devices)
    if SEARCH.value == "settings":
        candidates = search.settings(work, unit, compiled.limit(place))
        found, tried = search.cheapest(candidates, compile_)
        last = found or (tried[-1] if tried else None)
        if last is not None:
            return stage(work=last.work, compiled=last.compiled)
    at_batch = lambda batch: compile_(search.with_batch(work, batch))  # noqa: E731
    batch = work.plan.batch_size
    if SEARCH.value == "batch":
        best = search.largest(at_batch, batch, unit)
        if best is not None:
            return stage(work=search.with_batch(work, best[0]), compiled=best[1])
    made = compile_(work)
    if made.fits or not NEAREST.value:
        return stage(work=work, compiled=made)
    known = {batch: made}
    best = search.largest(lambda n: known.get(n) or at_batch(n), batch, unit, below=True)
    size, nearest = best or (0, None)
    return stage(work=work, compiled=made, nearest=nearest, nearest_batch=size)


class _Compiling:
    """Compiles, and says on the terminal how long that may still take."""

    def __init__(self, place: topology.Slice, number: int):
        self._place, self._number = place, number
        self._seconds: list[float] = []
        self.stage = 0

    def __call__(self, work: Work) -> compiled.Compiled:
        expected = max(self._seconds, default=None)
        what = (
            f"[{self.stage + 1}/{self._number}] compiling {work.name} at batch "
            f"{work.plan.batch_size:,}, {search.describe(work.config)}"
        )
        with waiting(what, expected):
            made = compiled.compile_step(work, self._place)
        logging.info("%s: %s", what.replace("compiling", "compiled"), _outcome(made))
        if made.fits:
            self._seconds.append(made.seconds)
        return made


def _outcome(made: compiled.Compiled) -> str:
    memory = made.memory
    fits = "fits" if made.fits else "does not fit"
    return (
        f"{memory.total / 2**30:.2f} of {memory.limit / 2**30:.2f} GiB, {fits} "
        f"({clock(made.seconds)})"
    )


def _price(price: cost.Price) -> str:
    if price.dollars is None:
        return f"no price ({price.source})"
    return f"${price.dollars:.2f} for a chip-hour ({price.source})"


def _show(text: str, values: dict[str, Any]) -> None:
    if JSON.value == "-":
        cli.say(json.dumps(values, indent=2))
        return
    cli.say(text)
    if JSON.value:
        files.write_json(JSON.value, values, indent=2)

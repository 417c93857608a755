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
from clipa_jax.planning import (
    analytic,
    chips,
    compiled,
    cost,
    published,
    report,
    search,
    topology,
    workload,
)
from clipa_jax.planning.report import PlannedStage
from clipa_jax.planning.workload import Workload
from clipa_jax.runtime import cli, files
from clipa_jax.runtime.format import clock
from clipa_jax.runtime.progress import waiting

CONFIG = cli.define_config()
TOPOLOGY = flags.DEFINE_string("topology", None, "A TPU slice, such as v5e:8x8 or v5p:4x4x4.")
DEVICE = flags.DEFINE_string("device", None, f"Estimate for these chips: {', '.join(chips.CHIPS)}.")
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
    work = [workload.read(config) for config in _chosen(CONFIG.value)]
    if TOPOLOGY.value:
        plans, title = _compile(work)
    else:
        plans, title = _estimate(work)
    _show(
        report.text(plans, title),
        {"title": title, "stages": [report.as_dict(plan) for plan in plans]},
    )
    return 1 if any(plan.verdict() for plan in plans) else None


def _chosen(config: ConfigDict) -> list[ConfigDict]:
    """The stages that --stages names, or all."""
    stages = schedules.split(config)
    names = [stage.name for stage in stages]
    for name in STAGES.value:
        if name not in names:
            raise ConfigError(f"--stages={name}: the config has {', '.join(names)}")
    return [stage for stage in stages if stage.name in (STAGES.value or names)]


def _estimate(stages: list[Workload]) -> tuple[list[PlannedStage], str]:
    """Plans without a compiler, and their title."""
    assert DEVICE.value
    chip, number, efficiency = chips.chip(DEVICE.value), CHIPS.value, EFFICIENCY.value
    price = cost.price(chip, PRICE.value)
    plans = [
        PlannedStage(
            work, chip, number, price, estimate=analytic.estimate(work, chip, number, efficiency)
        )
        for work in stages
    ]
    title = f"{number} x {chip.name}, an estimate at {efficiency:.1%} of their peak; "
    return plans, title + _price(price)


def _compile(stages: list[Workload]) -> tuple[list[PlannedStage], str]:
    """Plans by the TPU compiler, and their title."""
    assert TOPOLOGY.value
    tpu_slice = topology.find(TOPOLOGY.value)
    price = cost.price(tpu_slice.chip, PRICE.value)
    compiler = _Compiler(tpu_slice, len(stages))
    plans = []
    for index, work in enumerate(stages):
        compiler.stage = index
        plans.append(_planned(work, tpu_slice, price, compiler))
    title = f"{tpu_slice.name}: {len(tpu_slice.devices)} chips, libtpu {topology.version()}; "
    return plans, title + _price(price)


def _planned(
    work: Workload, tpu_slice: topology.Slice, price: cost.Price, compiler: Callable
) -> PlannedStage:
    """One stage, after the search that was asked for."""
    unit = len(tpu_slice.devices)
    stage = functools.partial(PlannedStage, chip=tpu_slice.chip, num_chips=unit, price=price)
    if SEARCH.value == "settings":
        candidates = search.settings(work, unit, compiled.memory_limit(tpu_slice))
        best, tried = search.cheapest(candidates, compiler)
        candidate = best or (tried[-1] if tried else None)
        if candidate is not None:
            return stage(work=candidate.work, compiled=candidate.compiled)
    at_batch = lambda batch: compiler(search.with_batch(work, batch))  # noqa: E731
    batch = work.durations.batch_size
    if SEARCH.value == "batch":
        largest = search.largest(at_batch, batch, unit)
        if largest is not None:
            return stage(work=search.with_batch(work, largest[0]), compiled=largest[1])
    result = compiler(work)
    if result.fits or not NEAREST.value:
        return stage(work=work, compiled=result)
    known = {batch: result}
    largest = search.largest(lambda n: known.get(n) or at_batch(n), batch, unit, below=True)
    size, nearest = largest or (0, None)
    return stage(work=work, compiled=result, nearest=nearest, nearest_batch=size)


class _Compiler:
    """Compiles stages and shows the time that is left on the terminal."""

    def __init__(self, tpu_slice: topology.Slice, number: int):
        self._slice, self._number = tpu_slice, number
        self._seconds: list[float] = []
        self.stage = 0

    def __call__(self, work: Workload) -> compiled.Compiled:
        expected = max(self._seconds, default=None)
        place = f"[{self.stage + 1}/{self._number}]"
        settings = (
            f"{work.name} at batch {work.durations.batch_size:,}, {search.describe(work.config)}"
        )
        with waiting(f"{place} compiling {settings}", expected):
            result = compiled.compile_step(work, self._slice)
        logging.info("%s compiled %s: %s", place, settings, _outcome(result))
        if result.fits:
            self._seconds.append(result.seconds)
        return result


def _outcome(result: compiled.Compiled) -> str:
    memory, fits = result.memory, "fits" if result.fits else "does not fit"
    return (
        f"{memory.total / 2**30:.2f} of {memory.limit / 2**30:.2f} GiB, {fits} "
        f"({clock(result.seconds)})"
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

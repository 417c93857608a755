"""Estimates memory, time and cost of every stage before launching.

    python tools/plan.py --config=configs/model_h/schedule.py --topology=v5e:8x8
    python tools/plan.py --config=configs/model_l/pretrain.py --topology=v5e:4x4 --search=batch
    python tools/plan.py --config=configs/model_h/schedule.py --device=h200 --chips=8
    python tools/plan.py --published

With --topology the TPU compiler compiles the training step of every stage on any machine; that
needs requirements-tpu.txt but no TPU. With --device the numbers are estimates from sizes alone.
Any key of the config can be overridden, as in training.
"""

import functools
import json
import os
from collections.abc import Callable
from typing import Any

from absl import flags, logging
from ml_collections import ConfigDict

from clipa_jax.errors import ConfigError
from clipa_jax.planning import (
    analytic,
    capacity,
    chips,
    compiled,
    published,
    report,
    search,
    topology,
)
from clipa_jax.planning import workload as workloads
from clipa_jax.planning.report import PlannedStage
from clipa_jax.planning.workload import Workload
from clipa_jax.runtime import cli, files
from clipa_jax.runtime.format import clock, memory
from clipa_jax.runtime.progress import waiting
from clipa_jax.training import derive
from clipa_jax.weights import open_weights

FLAGS = flags.FLAGS


def main(argv: list[str]) -> int | None:
    """Plans the stages of the config; status 1 if one of them does not fit."""
    del argv
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # nothing is computed here
    if FLAGS.published:
        residuals = published.compare()
        _show(published.text(residuals), published.as_dict(residuals))
        return None
    if not isinstance(FLAGS.config, ConfigDict):
        raise ConfigError("--config=FILE.py is needed, e.g. configs/model_h/schedule.py")
    if bool(FLAGS.topology) == bool(FLAGS.device):
        raise ConfigError("either --topology=v5e:8x8 (compiled) or --device=h200 (estimate)")
    stages = _chosen(FLAGS.config)
    rates = image_rates(FLAGS.images_per_core, [stage.name for stage in stages])
    plans, title = _compile(stages, rates) if FLAGS.topology else _estimate(stages, rates)
    _show(
        report.text(plans, title),
        {"title": title, "stages": [report.as_dict(plan) for plan in plans]},
    )
    return 1 if any(plan.verdict() for plan in plans) else None


def _chosen(config: ConfigDict) -> list[ConfigDict]:
    """The stages that --stages names, or all."""
    stages = derive.resolve(config, open_weights)
    names = [stage.name for stage in stages]
    for name in FLAGS.stages:
        if name not in names:
            raise ConfigError(f"--stages={name}: the config has {', '.join(names)}")
    return [stage for stage in stages if stage.name in (FLAGS.stages or names)]


def image_rates(given: list[str], stages: list[str]) -> dict[str, float]:
    """Images/s of a host core by stage, from one number or STAGE=NUMBER for each; {} from nothing.

    Raises `ConfigError` for a number that is not above 0, a stage without one, or another name.
    """
    texts = given
    if len(given) == 1 and "=" not in given[0]:
        texts = [f"{name}={given[0]}" for name in stages]
    try:
        rates = {name: float(rate) for name, _, rate in (text.partition("=") for text in texts)}
    except ValueError:
        rates = {}
    if given and not (rates.keys() == {*stages} and min(rates.values()) > 0):
        raise ConfigError(
            f"--images_per_core={','.join(given)}: expected a number above 0, or "
            f"one for each stage, as {','.join(f'{name}=900' for name in stages)}"
        )
    return rates


def _estimate(stages: list[ConfigDict], rates: dict[str, float]) -> tuple[list[PlannedStage], str]:
    """Plans without a compiler, and their title."""
    chip, number, efficiency = chips.chip(FLAGS.device), FLAGS.chips, FLAGS.efficiency
    price = _price(chip)
    plans = []
    for config in stages:
        work = workloads.read(capacity.settle(config, number, chip.memory))
        estimate = analytic.estimate(work, chip, number, efficiency)
        rate = rates.get(work.name)
        plans.append(
            PlannedStage(work, chip, number, price, estimate=estimate, images_per_core=rate)
        )
    title = f"{number} x {chip.name}, an estimate at {efficiency:.1%} of their peak; {price}"
    return plans, title


def _compile(stages: list[ConfigDict], rates: dict[str, float]) -> tuple[list[PlannedStage], str]:
    """Plans by the TPU compiler, and their title."""
    tpu_slice = topology.find(FLAGS.topology)
    number, price = len(tpu_slice.devices), _price(tpu_slice.chip)
    compiler = _Compiler(tpu_slice, len(stages))
    plans = []
    for index, config in enumerate(stages):
        compiler.stage = index
        work = workloads.read(capacity.settle(config, number, tpu_slice.chip.memory))
        stage = functools.partial(
            PlannedStage,
            chip=tpu_slice.chip,
            num_chips=number,
            price=price,
            images_per_core=rates.get(work.name),
        )
        plans.append(_planned(work, stage, tpu_slice, compiler))
    title = f"{tpu_slice.name}: {number} chips, libtpu {topology.version()}; {price}"
    return plans, title


def _price(chip: chips.Chip) -> chips.Price:
    return chip.price if FLAGS.price is None else chips.Price(FLAGS.price, "as given")


def _planned(
    work: Workload,
    stage: Callable[..., PlannedStage],
    tpu_slice: topology.Slice,
    compiler: Callable,
) -> PlannedStage:
    """One stage, after the requested search."""
    unit = len(tpu_slice.devices)
    if FLAGS.search == "settings":
        candidates = search.settings(work, unit, compiled.memory_limit(tpu_slice))
        best, tried = search.cheapest(candidates, compiler)
        candidate = best or (tried[-1] if tried else None)
        if candidate is not None:
            return stage(work=candidate.work, compiled=candidate.compiled)
    at_batch = lambda batch: compiler(search.with_batch(work, batch))  # noqa: E731
    batch = work.durations.batch_size
    if FLAGS.search == "batch":
        largest = search.largest(at_batch, batch, unit)
        if largest is not None:
            return stage(work=search.with_batch(work, largest[0]), compiled=largest[1])
    result = compiler(work)
    if result.fits or not FLAGS.nearest:
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
        place = f"[{self.stage + 1}/{self._number}]"
        batch, settings = work.durations.batch_size, search.describe(work.config)
        name = f"{work.name} at batch {batch:,}, {settings}"
        with waiting(f"{place} compiling {name}", max(self._seconds, default=None)):
            result = compiled.compile_step(work, self._slice)
        size, fits = result.memory, "fits" if result.fits else "does not fit"
        logging.info(
            f"{place} compiled {name}: {memory(size.total)} of {memory(size.limit)}, {fits} "
            f"({clock(result.seconds)})"
        )
        if result.fits:
            self._seconds.append(result.seconds)
        return result


def _show(text: str, values: dict[str, Any]) -> None:
    if FLAGS.json == "-":
        cli.say(json.dumps(values, indent=2))
        return
    cli.say(text)
    if FLAGS.json:
        files.write_json(FLAGS.json, values, indent=2)


def start() -> None:
    """Runs the command line."""
    cli.define_config()
    flags.DEFINE_string("topology", None, "A TPU slice, such as v5e:8x8 or v5p:4x4x4.")
    flags.DEFINE_string("device", None, f"Estimate for these chips: {', '.join(chips.CHIPS)}.")
    flags.DEFINE_integer("chips", 8, "How many of them.", lower_bound=1)
    flags.DEFINE_list("stages", [], "Names of the stages to plan, all by default.")
    flags.DEFINE_enum(
        "search",
        None,
        ["batch", "settings"],
        "Find the largest batch that fits, or the settings with the fewest FLOPs that do.",
    )
    flags.DEFINE_boolean("nearest", True, "Where a batch does not fit, look for one that does.")
    flags.DEFINE_float("price", None, "Dollars for an hour of one chip.", lower_bound=0.0)
    peak = "With --device: model FLOPs over the chips' peak."
    flags.DEFINE_float("efficiency", published.EFFICIENCY, peak)
    per_core = "Images/s of a host core, from tools/inspect_data.py: prints the cores of a chip. "
    flags.DEFINE_list("images_per_core", [], per_core + "A number, or STAGE=NUMBER for each stage.")
    flags.DEFINE_string("json", None, "Write the plan to this file too; - for the terminal.")
    flags.DEFINE_boolean("published", False, "Compare with CLIPA's published GPU hours.")
    cli.run(main, needs_config=False)

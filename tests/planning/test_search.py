"""Searches with a formula in place of the compiler."""

import pytest

from clipa_jax.commands import plan
from clipa_jax.config import recipes
from clipa_jax.errors import ConfigError
from clipa_jax.planning import chips, compiled, hlo, report, search, workload
from tests.helpers import tiny

GIB = 2**30
COUNTS = hlo.Counts({"all-reduce": 2e9}, 4.5e7)


def result(total: float, limit: float = 16 * GIB) -> compiled.Compiled:
    memory = compiled.Memory(arguments=GIB, temporaries=total - GIB, limit=limit)
    return compiled.Compiled(memory, 1e12, COUNTS if total <= limit else None, 1.0)


class Compiler:
    """Memory of a constant and a share of each sample, a little bent; counts its calls."""

    def __init__(self, constant: float, sample: float, bend: float = 0.0):
        self.constant, self.sample, self.bend = constant, sample, bend
        self.asked: list[int] = []

    def __call__(self, batch: int) -> compiled.Compiled:
        self.asked.append(batch)
        return result(self.constant + self.sample * batch + self.bend * batch**2)

    def largest(self, unit: int) -> int:
        batch = unit
        while self.constant + self.sample * batch + self.bend * batch**2 <= 16 * GIB:
            batch += unit
        return batch - unit


@pytest.mark.parametrize("start", [64, 6_400, 64_000, 640_000])
@pytest.mark.parametrize(
    "compiler", [(2 * GIB, 1e6, 0), (0, 3e5, 0), (6 * GIB, 2e5, 2.0), (15.9 * GIB, 1e6, 0)]
)
def test_the_largest_batch_is_found_in_few_compilations(start, compiler):
    compiler = Compiler(*compiler)
    batch, largest = search.largest(compiler, start, unit=64)
    assert batch == compiler.largest(64) and largest.fits
    assert len(compiler.asked) <= search.TRIES
    assert len(set(compiler.asked)) == len(compiler.asked)


def test_without_a_batch_that_fits_the_search_returns_none():
    assert search.largest(Compiler(20 * GIB, 1e6), 6_400, unit=64) is None


def test_a_search_below_a_batch_that_fits_ends_at_once():
    compiler = Compiler(2 * GIB, 1e6)
    assert search.largest(compiler, 640, unit=64, below=True) == (640, result(2 * GIB + 640e6))
    assert compiler.asked == [640]


def test_the_search_stops_at_the_cheapest_settings_that_fit():
    work = workload.read(recipes.load("model_l/finetune_224"))
    asked = []

    def compile_work(one):
        asked.append(one)
        return result(10 * GIB if one.config.microbatch == 512 else 20 * GIB)

    candidates = search.settings(work, 16, limit=16 * GIB)
    best, tried = search.cheapest(candidates, compile_work)
    assert best is tried[-1] and best.work.config.microbatch == 512
    assert len(asked) == len(tried) > 1
    # Never with full recomputation inside of micro-batches: 5/3 of the arithmetic.
    assert best.work.config.model.image.remat in ("none", "dots_no_batch")
    assert all(one.durations.batch_size == 32_768 for one in asked)


def test_settings_far_above_the_limit_are_not_compiled():
    work = workload.read(recipes.load("model_h/pretrain"))
    tried = [
        (one.config.model.image.remat, one.config.microbatch)
        for one in search.settings(work, 64, limit=16 * GIB)
    ]
    assert ("none", None) not in tried and ("full", None) in tried


def stage(total: float, **more) -> report.PlannedStage:
    work = workload.read(tiny.config(input__batch_size=1_024))
    chip = chips.chip("v5e")
    return report.PlannedStage(work, chip, 64, chip.price, compiled=result(total), **more)


def test_a_stage_that_does_not_fit_reports_excess_and_nearest_batch():
    planned = stage(20.5 * GIB, nearest=result(15.5 * GIB), nearest_batch=768)
    for number in ("20.50 GiB", "16.00 GiB", "4.50 GiB", "batch 1,024", "batch 768"):
        assert number in planned.verdict()
    assert planned.verdict() in report.text([planned], "a title")
    assert report.as_dict(planned)["fits"] is False
    assert report.as_dict(planned)["dollars"] is None


def test_a_stage_that_fits_has_no_verdict():
    assert stage(3 * GIB).verdict() is None


def test_host_cores_follow_from_the_speed_of_a_chip():
    planned = stage(3 * GIB, images_per_core=200.0)
    # 1,024 samples over 64 chips.
    assert planned.host_cores(0.01) == pytest.approx(16 / 0.01 / 200)
    assert "host cores a chip" in report.text([planned], "a title")
    assert "host cores" not in report.text([stage(3 * GIB)], "a title")


def test_images_per_core_are_one_number_or_one_for_each_stage():
    stages = ["pretrain", "finetune_224"]
    assert plan.image_rates([], stages) == {}
    assert plan.image_rates(["847"], stages) == {"pretrain": 847, "finetune_224": 847}
    each = {"finetune_224": 634, "pretrain": 847}
    assert plan.image_rates([f"{name}={rate}" for name, rate in each.items()], stages) == each


@pytest.mark.parametrize("given", ["0", "x", "pretrain=847", "847,634", "pretrain=1,finetune=2"])
def test_images_per_core_that_do_not_fit_the_stages_are_refused(given):
    with pytest.raises(ConfigError, match="one for each stage, as pretrain=900,finetune_224=900"):
        plan.image_rates(given.split(","), ["pretrain", "finetune_224"])


def test_seconds_hours_and_dollars_of_a_roofline():
    planned = stage(3 * GIB)
    # 1e12 FLOPs at 197e12/s, 2e9 bytes at 200e9/s: the interconnect bounds the step.
    # The compiler counts 4.5e7 cycles, at 1.5e9/s.
    assert (planned.step.compute, planned.step.interconnect) == (1 / 197, 0.01)
    assert planned.step_seconds == 0.01
    assert planned.expected_seconds == pytest.approx(0.03, rel=0.01)
    hours = planned.chip_hours(planned.step_seconds)
    assert hours == pytest.approx(20 * 0.01 * 64 / 3600)
    assert planned.dollars(planned.step_seconds) == pytest.approx(hours * 1.20)
    assert planned.mfu(0.01) == pytest.approx(planned.work.step_flops / (0.01 * 64 * 197e12))
    assert planned.flops_ratio == pytest.approx(64 * 1e12 / planned.work.step_flops)


def test_a_price_has_a_source_or_says_that_there_is_none():
    assert str(chips.Price(0.5, "as given")) == "$0.50 for a chip-hour (as given)"
    assert chips.chip("v5e").price.dollars and "2024" in chips.chip("v5e").price.source
    assert str(chips.chip("v5p").price) == "no price (no source; give --price)"

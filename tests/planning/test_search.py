"""Searches, on a compiler that is a formula."""

import pytest

from clipa_jax.config import recipes
from clipa_jax.planning import chips, compiled, cost, hlo, report, search
from clipa_jax.planning import work as works
from tests.helpers import tiny

GIB = 2**30
COUNTS = hlo.Counts(1e12, {"all-reduce": 2e9}, 4.5e7)


def judged(total: float, limit: float = 16 * GIB) -> compiled.Compiled:
    memory = compiled.Memory(arguments=GIB, temporaries=total - GIB, limit=limit)
    return compiled.Compiled(memory, COUNTS if total <= limit else None, 1.0)


class Compiler:
    """Memory of a constant and a share of each sample, a little bent; counts its calls."""

    def __init__(self, constant: float, sample: float, bend: float = 0.0):
        self.constant, self.sample, self.bend = constant, sample, bend
        self.asked: list[int] = []

    def __call__(self, batch: int) -> compiled.Compiled:
        self.asked.append(batch)
        return judged(self.constant + self.sample * batch + self.bend * batch**2)

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
    batch, made = search.largest(compiler, start, unit=64)
    assert batch == compiler.largest(64) and made.fits
    assert len(compiler.asked) <= search.TRIES
    assert len(set(compiler.asked)) == len(compiler.asked)


def test_where_nothing_fits_it_says_so():
    assert search.largest(Compiler(20 * GIB, 1e6), 6_400, unit=64) is None


def test_below_the_asked_batch_a_batch_that_fits_ends_the_search():
    compiler = Compiler(2 * GIB, 1e6)
    assert search.largest(compiler, 640, unit=64, below=True) == (640, judged(2 * GIB + 640e6))
    assert compiler.asked == [640]


def test_the_cheapest_settings_come_first_and_the_rest_is_not_compiled():
    work = works.read(recipes.load("model_l/finetune_224"))
    asked = []

    def compile_work(one):
        asked.append(one)
        return judged(10 * GIB if one.config.microbatch == 512 else 20 * GIB)

    candidates = search.settings(work, 16, limit=16 * GIB)
    found, tried = search.cheapest(candidates, compile_work)
    assert found is tried[-1] and found.work.config.microbatch == 512
    assert len(asked) == len(tried) > 1
    # Never with full recomputation inside of micro-batches: 5/3 of the arithmetic.
    assert found.work.config.model.image.remat in ("none", "dots_no_batch")
    assert all(one.plan.batch_size == 32_768 for one in asked)


def test_settings_that_are_far_too_large_are_not_even_tried():
    work = works.read(recipes.load("model_h/pretrain"))
    tried = [
        (one.config.model.image.remat, one.config.microbatch)
        for one in search.settings(work, 64, limit=16 * GIB)
    ]
    assert ("none", None) not in tried and ("full", None) in tried


def stage(total: float, **more) -> report.Stage:
    work = works.read(tiny.config(input__batch_size=1_024))
    chip = chips.chip("v5e")
    price = cost.price(chip, None)
    return report.Stage(work, chip, 64, price, compiled=judged(total), **more)


def test_a_stage_that_does_not_fit_says_by_how_much_and_what_does():
    made = stage(20.5 * GIB, nearest=judged(15.5 * GIB), nearest_batch=768)
    assert made.verdict() == (
        "train does not fit: a chip needs 20.50 GiB, of which it has 16.00 GiB, so 4.50 GiB too "
        "much at batch 1,024 (16 a chip; remat none, unrolled, dp); nearest that fits: batch 768 "
        "(12 a chip), 15.50 GiB"
    )
    text = report.text([made], "a title")
    assert made.verdict() in text and "no: 4.50 GiB too much" in text
    assert report.as_dict(made)["fits"] is False
    assert report.as_dict(made)["dollars"] is None


def test_a_stage_that_fits_says_nothing():
    assert stage(3 * GIB).verdict() is None


def test_seconds_hours_and_dollars_of_a_roofline():
    made = stage(3 * GIB)
    # 1e12 FLOPs at 197e12/s, 2e9 bytes at 200e9/s: the interconnect bounds the step.
    # The compiler counts 4.5e7 cycles, at 1.5e9/s.
    assert (made.step.compute, made.step.interconnect) == (1 / 197, 0.01)
    assert (made.step.bound, made.step_seconds) == ("interconnect", 0.01)
    assert made.expected_seconds == pytest.approx(0.03, rel=0.01)
    hours = made.chip_hours(made.step_seconds)
    assert hours == pytest.approx(20 * 0.01 * 64 / 3600)
    assert made.dollars(made.step_seconds) == pytest.approx(hours * 1.20)
    assert made.mfu(0.01) == pytest.approx(made.work.step_flops / (0.01 * 64 * 197e12))
    assert made.flops_ratio == pytest.approx(64 * 1e12 / made.work.step_flops)


def test_a_price_is_what_was_given_or_what_has_a_source():
    assert cost.price(chips.chip("v5e"), 0.5).dollars == 0.5
    assert "2024" in cost.price(chips.chip("v5e"), None).source
    assert cost.price(chips.chip("v5p"), None) == cost.Price(None, "no source; give --price")

"""The inverse scaling law, on planted scores of which the drops are known."""

import statistics

import pytest
from PIL import Image

from clipa_jax.config import recipes
from clipa_jax.errors import DataError
from clipa_jax.report import find_runs, law_plots, scaling, sweep_text
from clipa_jax.report.groups import Estimate, of_stage
from tests.helpers.sweep_runs import plant

TOP1, LOSS = "zero_shot/top1", "contrastive/loss"
BOTH = ("pretrain", "finetune")
# Size -> score at full length; with half of the seed as noise that drops share.
FULL = {"nano": 0.20, "micro": 0.30, "mini": 0.40}
DROP = {"nano": 0.10, "micro": 0.06, "mini": 0.02}
NOISE = {0: 0.0, 1: 0.01, 2: -0.01}


def grid(root, sizes=FULL, seeds=(0, 1, 2)):
    """Full length, 16 and 4 image tokens, 4 text tokens; half the drop for text."""
    for size in sizes:
        for seed in seeds:
            where = f"{size}/{seed}"
            keys = {"model__size": f"{size}/8", "seed": seed, "stages": BOTH}
            full, drop, noise = FULL[size], DROP[size], NOISE[seed]
            plant(root / "full" / where, full, **keys)
            small = {**keys, "pretrain___input__res": 32}
            plant(root / "image_16" / where, full - drop + noise, **small)
            masked = {**keys, "pretrain___mask__ratio": 0.75}
            plant(root / "random_16" / where, full - 2 * drop + noise, **masked)
            short = {**small, "pretrain___input__text_len": 4}
            short["pretrain___input__reduction"] = "syntax"
            plant(root / "text_4" / where, full - 1.5 * drop + noise, **short)
    return of_stage(find_runs.read([root]).rows, "")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("grid")


@pytest.fixture(scope="module")
def points(root):
    return grid(root)


def test_drops_are_from_the_same_size_and_seed(points):
    law = scaling.read(points, TOP1)
    assert law.sizes == ("nano", "micro", "mini")
    named = {(cell.side, cell.reduction, cell.tokens): cell for cell in law.cells}
    assert set(named) == {("image", "resize", 16), ("image", "random", 16), ("text", "syntax", 4)}
    cell = named["image", "resize", 16]
    assert cell.drops("mini") == pytest.approx({0: 0.02, 1: 0.01, 2: 0.03})
    assert cell.drop("nano").mean == pytest.approx(0.10)
    # Text tokens are cut from what has as many image tokens, not from the full length of both.
    assert named["text", "syntax", 4].drops("mini") == pytest.approx(dict.fromkeys(NOISE, 0.01))
    [full] = {point.row.run.split("/")[0] for point in law.full("image", "mini")}
    [short] = {point.row.run.split("/")[0] for point in law.full("text", "mini")}
    assert (full, short) == ("full", "image_16")


def test_a_loss_rises_where_an_accuracy_drops(points):
    law = scaling.read(points, LOSS)
    cell = next(cell for cell in law.cells if cell.reduction == "resize")
    assert cell.drop("nano").mean == pytest.approx(0.10)
    assert scaling.cells(law, "image")[1][2] == "4.800 ± 0.000"


def test_the_contrast_of_the_largest_and_the_smallest(points):
    law = scaling.read(points, TOP1)
    contrast = law.contrast(law.of_side("image"))
    # Over both reductions: 1.5 times -0.08; the noise of a seed is the same in both sizes.
    assert contrast.mean == pytest.approx(-0.12) and contrast.count == 3
    assert scaling.verdict(contrast, TOP1) == "-12.00 [-12.00, -12.00] smaller"
    mean = law.mean_drop([cell for cell in law.cells if cell.reduction == "random"])
    assert mean.mean == pytest.approx(0.12)
    said = scaling.summary(law, "image")
    assert "image: over all of these, the drop of mini less that of nano is -12.00" in said[0]
    assert said[1].startswith("image, random: mean drop +12.00 ± 0.58 over all sizes at 16 tokens")


def test_signal_to_noise_by_hand(points):
    law = scaling.read([row for row in points if row.run.split("/")[0] != "text_4"], TOP1)
    squares = [(times * DROP[size]) ** 2 for size in FULL for times in (1, 2)]
    assert law.signal_to_noise() == pytest.approx(statistics.mean(squares) ** 0.5 / 0.01)
    one_seed = [row for row in points if row.run.endswith("0")]
    assert scaling.read(one_seed, TOP1).signal_to_noise() is None


def test_what_cannot_be_told_is_said():
    wide = Estimate.of([-0.02, 0.01, 0.0])
    assert scaling.verdict(wide, TOP1).endswith("cannot tell")
    assert scaling.verdict(Estimate.of([0.02, 0.021, 0.022]), TOP1).endswith("larger")
    assert scaling.verdict(Estimate.of([0.02]), TOP1) == "+2.00 (one seed)"


def test_an_unfinished_grid_shows_what_is_there(tmp_path):
    rows = grid(tmp_path, sizes=("nano", "mini"), seeds=(0, 1))
    rows = [row for row in rows if not row.run.startswith(("full/mini/1", "random_16/nano"))]
    law = scaling.read(rows, TOP1)
    lines = {line[:2]: line[2:] for line in scaling.cells(law, "image")}
    assert lines["random", "16"] == ("-", "+4.00 (90%)", "-")
    assert lines["resize", "16"][-1] == "-8.00 (one seed)"
    assert law_plots.drops(law, "image", tmp_path / "drops.png", "2 are missing").exists()


def test_the_plots_are_drawn(root, points, tmp_path):
    law = scaling.read(points, TOP1)
    files = [law_plots.drops(law, side, tmp_path / f"{side}.png") for side in ("image", "text")]
    files.append(law_plots.against_flops(law, tmp_path / "flops.png"))
    for file in files:
        with Image.open(file) as picture:
            darkest, brightest = picture.convert("L").getextrema()
            assert picture.width > 700 and darkest < 60 and brightest == 255


def test_other_samples_data_and_settings_are_refused(tmp_path, points):
    odd = tmp_path / "odd"
    plant(odd, 0.2, stages=BOTH, seed=7, pretrain___total_examples=64)
    few = recipes.load("scaling/finetune").total_examples + 64
    with pytest.raises(DataError, match=f"equal samples, but there are runs of {few:,} and of"):
        scaling.read([*points, *of_stage(find_runs.read([odd]).rows, "")], TOP1)
    plant(tmp_path / "data", 0.2, stages=BOTH, seed=7, extra={"data": "5678"})
    with pytest.raises(DataError, match="not comparable .train.fingerprint differ"):
        scaling.read([*points, *of_stage(find_runs.read([tmp_path / "data"]).rows, "")], TOP1)
    plant(tmp_path / "b2", 0.2, stages=BOTH, seed=7, finetune___optim__b2=0.5)
    with pytest.raises(DataError, match="the runs also differ in optim.b2"):
        scaling.read([*points, *of_stage(find_runs.read([tmp_path / "b2"]).rows, "")], TOP1)


def test_a_grid_of_which_some_points_went_further(tmp_path, points):
    plant(tmp_path / "early", 0.2, seed=7)
    with pytest.raises(DataError, match="end with finetune and with pretrain; choose one by --st"):
        scaling.read([*points, *find_runs.read([tmp_path / "early"]).rows], TOP1)


def test_metrics_and_pairs_that_are_not_there(points):
    with pytest.raises(DataError, match="no run has the metric 'zero_shot/top2', only contrastive"):
        scaling.read(points, "zero_shot/top2")
    full = [row for row in points if row.run.startswith("full")]
    with pytest.raises(DataError, match="no pair of runs"):
        scaling.read(full, TOP1)


def test_the_law_before_the_last_stage(root):
    law = scaling.read(of_stage(find_runs.read([root]).rows, "pretrain"), TOP1)
    assert {cell.tokens for cell in law.cells} == {4, 16}
    assert sweep_text.estimate(law.score(law.full("image", "mini")), TOP1) == "40.00 ± 0.00"

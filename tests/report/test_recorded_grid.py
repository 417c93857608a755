"""The tables of docs/measurements/inverse_scaling.md follow from its runs."""

from pathlib import Path

import pytest

from clipa_jax.report import find_runs, scaling
from clipa_jax.report.groups import of_stage
from clipa_jax.runtime import format

DOCS = Path(__file__).parents[2] / "docs" / "measurements"


@pytest.fixture(scope="module")
def rows():
    return of_stage(find_runs.read([DOCS / "inverse_scaling.csv"]).rows, "")


@pytest.mark.parametrize("metric", ["contrastive/loss", "zero_shot/top1", "zero_shot/top5"])
@pytest.mark.parametrize("side", ["image", "text"])
def test_the_tables_follow_from_the_recorded_runs(rows, metric, side):
    law = scaling.read(rows, metric)
    page = (DOCS / "inverse_scaling.md").read_text()
    cells = scaling.cells(law, side)
    assert format.markdown(cells, range(1, len(cells[0]))) in page
    assert f"{law.signal_to_noise():.1f} for {metric}" in page


def test_whole_cells_have_three_seeds_of_three_sizes(rows):
    law = scaling.read(rows, "contrastive/loss")
    assert law.sizes == ("nano", "micro", "mini")
    assert all(len(cell.pairs[size]) == 3 for cell in law.cells for size in law.sizes)

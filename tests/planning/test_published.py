"""CLIPA's published GPU hours against the planner's one constant."""

import math

from clipa_jax.planning import published


def test_one_efficiency_reproduces_every_published_row():
    residuals = published.compare()
    assert len(residuals) == 7
    for one in residuals:
        assert abs(one.off) < 0.25, f"{one.row.name}: {one.off:+.0%}"
    # The constant is the one that the rows themselves ask for, and not another.
    assert math.isclose(published.fit(residuals), published.EFFICIENCY, rel_tol=0.005)


def test_the_hours_of_a_row_are_those_of_all_its_stages():
    """Pre-training alone, or one stage too many, misses the table."""
    residuals = {(one.row.size, len(one.row.stages)): one for one in published.compare()}
    two, three = residuals["H/14", 2], residuals["H/14", 3]
    assert 0 < three.model_flops - two.model_flops < 0.1 * two.model_flops
    assert three.row.hours - two.row.hours == 864


def test_the_table_names_every_row_and_its_residual():
    residuals = published.compare()
    text = published.text(residuals)
    for one in residuals:
        assert f"{one.row.hours:,.0f}" in text and f"{one.off:+.1%}" in text
    assert published.as_dict(residuals)["rows"][0]["off"] == residuals[0].off

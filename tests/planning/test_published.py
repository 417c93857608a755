"""CLIPA's published GPU hours against the planner's one constant."""

import math

from clipa_jax.planning import published


def test_one_efficiency_reproduces_every_published_row():
    residuals = published.compare()
    assert len(residuals) == 7
    for residual in residuals:
        row = residual.row
        assert abs(residual.off) < 0.25, f"{row.name}: {residual.off:+.0%}"
    assert math.isclose(published.fit(residuals), published.EFFICIENCY, rel_tol=0.005)


def test_published_hours_include_all_stages_of_a_row():
    """Pre-training alone, or one stage too many, misses the table."""
    residuals = {(r.row.size, len(r.row.stages)): r for r in published.compare()}
    two, three = residuals["H/14", 2], residuals["H/14", 3]
    assert 0 < three.model_flops - two.model_flops < 0.1 * two.model_flops
    assert three.row.published_hours - two.row.published_hours == 864


def test_the_json_of_the_comparison_holds_the_residuals():
    residuals = published.compare()
    assert published.as_dict(residuals)["rows"][0]["off"] == residuals[0].off

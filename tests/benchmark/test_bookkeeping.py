import pytest

from clipa_jax.benchmark import bookkeeping


def test_bookkeeping_is_done_in_full():
    ranked, scored = bookkeeping.bookkeeping(pictures=50, classes=10, width=4, batch=16)
    assert ranked > 0 and scored > 0


def test_share_beside_the_image_tower():
    parts = bookkeeping.Parts(90.0, 4.0, 1.0, 2.0, 1.5, 1.5)
    assert parts.beside == pytest.approx(0.1)

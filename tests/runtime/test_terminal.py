import pytest

from clipa_jax.runtime.terminal import clock


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "0:05"), (75.4, "1:15"), (3675, "1:01:15"), (3 * 86400 + 7200, "3d 02h")],
)
def test_durations_are_shown_in_the_largest_sensible_units(seconds, text):
    assert clock(seconds) == text

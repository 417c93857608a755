import pytest

from clipa_jax.runtime.format import clock, markdown, memory, short, significant


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "0:05"), (75.4, "1:15"), (3675, "1:01:15"), (3 * 86400 + 7200, "3d 02h")],
)
def test_durations_are_shown_in_the_largest_sensible_units(seconds, text):
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (7, "7.00"), (588_800, "589 k"), (1e6, "1.00 M"), (12.8e9, "12.8 G"), (None, "–")],
)
def test_short_numbers(value, text):
    assert short(value) == text


def test_a_markdown_table_has_a_ruler_and_escaped_bars():
    rows = [("a", "b"), ("1|2", "3")]
    assert markdown(rows, right=[1]) == "| a | b |\n| --- | ---: |\n| 1\\|2 | 3 |"


@pytest.mark.parametrize(
    ("value", "text"),
    [(14.7e9, "13.69 GiB"), (3 * 2**20, "3.00 MiB"), (2_000, "1.95 KiB"), (None, "–")],
)
def test_sizes_of_memory_have_a_suitable_unit(value, text):
    assert memory(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(11_338.4, "11,338"), (99.96, "100"), (3.14159, "3.14"), (2.5e-4, "0.00025")],
)
def test_small_numbers_keep_three_digits(value, text):
    assert significant(value) == text

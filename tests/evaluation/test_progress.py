"""Bars move by what the encoders make, and the last batch does not overshoot."""

import io

import numpy as np

from clipa_jax.evaluation.progress import Bars


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self):
        return True


def test_a_bar_counts_pictures_and_texts():
    stream = Terminal()
    bars = Bars(stream)
    bars.pictures(np.zeros((8, 2)))  # before anything is shown
    with bars.of("zero_shot", 20):
        bars.texts(np.zeros((1_900, 2)))
        for _ in range(3):
            bars.pictures(np.zeros((8, 2)))
    said = stream.getvalue()
    assert "zero_shot 20/20" in said and "zero_shot 24" not in said
    assert "1,900 texts" in said and "pictures/s" in said and "loss" not in said


def test_without_a_total_and_beyond_it_counts_on():
    stream = Terminal()
    bars = Bars(stream)
    for name, total in (("unknown", None), ("probe", 10)):
        with bars.of(name, total):
            for _ in range(3):
                bars.pictures(np.zeros((8, 2)))
    said = stream.getvalue()
    assert "unknown 24/?" in said
    assert "probe 18/?" in said  # 10 of 10, then 8 of an unknown number


def test_where_there_is_no_terminal_it_is_calm(caplog):
    bars = Bars(io.StringIO())
    with bars.of("retrieval", 8), caplog.at_level("INFO"):
        bars.pictures(np.zeros((8, 2)))
        for _ in range(100):
            bars.texts(np.zeros((8, 2)))
    assert len(caplog.records) == 1

import io
import re
import threading
import types

import pytest

from clipa_jax.runtime import progress
from clipa_jax.runtime.progress import Progress
from tests.helpers.clock import Clock


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Standard error, as a terminal."""
    terminal = Terminal()
    # Not sys.stderr itself, which pytest sets again after the fixtures.
    monkeypatch.setattr(progress, "sys", types.SimpleNamespace(stderr=terminal))
    return terminal


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr("tqdm.std.time", clock.time)
    return clock


@pytest.fixture
def lines(monkeypatch):
    """Lines written to the log."""
    lines = []
    monkeypatch.setattr(progress.logging, "info", lambda form, *args: lines.append(form % args))
    return lines


def test_bar_shows_name_count_note_rate_and_remaining_time(clock, terminal):
    with Progress("pretrain", 100, units_per_count=64) as bar:
        for step in range(1, 11):
            clock.now += 0.5
            bar.update(step, "loss 2.000")
    shown = r"pretrain 10/100 \|.*\| loss 2.000  128 samples/s  ETA 0:45"
    assert re.search(shown, terminal.getvalue())


def test_rate_leaves_out_pauses_and_annotations(clock, terminal):
    bar = Progress("pretrain", 100, units_per_count=10)
    clock.now += 1
    bar.update(1)
    with bar.paused("evaluation"):
        clock.now += 60
    clock.now += 1
    bar.update(2)
    clock.now += 60
    bar.annotate("texts")
    clock.now += 1
    bar.update(3)
    assert set(re.findall(r"(\d+) samples/s", terminal.getvalue())) == {"10"}


def test_rate_of_a_resumed_count_leaves_out_what_was_done_before(clock, lines):
    bar = Progress("reading", 1_000, start=900)
    clock.now += 30
    bar.update(930)
    assert lines == ["reading 930/1,000 1 samples/s  ETA 1:10"]


def test_without_a_terminal_lines_are_written_at_intervals_and_at_the_end(clock, lines, capsys):
    bar = Progress("pretrain", 100)
    for step in range(1, 101):
        clock.now += 1
        bar.update(step)
    assert [line.split()[1] for line in lines] == ["30/100", "60/100", "90/100", "100/100"]
    assert capsys.readouterr().err == ""


def test_a_display_that_is_not_shown_writes_nothing(clock, lines, terminal):
    with Progress("pretrain", 2, shown=False) as bar:
        bar.update(2)
        bar.message("done")
    assert (terminal.getvalue(), lines) == ("", [])


def test_added_batches_do_not_pass_the_total_because_the_last_one_is_padded(terminal):
    with Progress("zero_shot", 20, unit="images") as bar:
        bar.annotate("1,900 texts")
        for _ in range(3):
            bar.add(8)
    shown = terminal.getvalue()
    assert "zero_shot 20/20" in shown and "zero_shot 24" not in shown
    assert "1,900 texts" in shown and "images/s" in shown


@pytest.mark.parametrize(("total", "count"), [(None, "24/?"), (10, "18/?")])
def test_a_count_without_total_or_beyond_it_has_no_total(total, count, terminal):
    with Progress("probe", total) as bar:
        for _ in range(3):
            bar.add(8)
    assert f"probe {count}" in terminal.getvalue()


def test_notes_write_no_lines_of_their_own(lines):
    with Progress("retrieval", 8) as bar:
        bar.add(8)
        for number in range(100):
            bar.annotate(f"{number} texts")
    assert len(lines) == 1


def test_poll_shows_stages_one_after_the_other_until_they_are_complete(lines):
    counts = {"reading": iter(range(5)), "writing": iter(range(5))}
    complete = threading.Event()

    def read(name):
        done = next(counts[name], 4)
        if name == "writing" and done == 4:
            complete.set()
        return done, 4

    stages = {name: lambda name=name: read(name) for name in counts}
    with progress.poll(stages, every_seconds=0.001):
        assert complete.wait(10)
    assert [line.split()[:2] for line in lines] == [["reading", "4/4"], ["writing", "4/4"]]


def test_poll_ends_with_the_block_while_a_stage_has_not_begun(lines):
    with progress.poll({"reading": lambda: (0, 0)}, every_seconds=60):
        pass
    assert lines == []


def test_waiting_shows_elapsed_and_expected_time_on_a_terminal(terminal):
    ticks = threading.Event()
    write = terminal.write

    def observed(text):
        if "compiling" in text:
            ticks.set()
        return write(text)

    terminal.write = observed
    with progress.waiting("compiling", expected=3_600):
        assert ticks.wait(10)
    assert "compiling: 0:0" in terminal.getvalue() and "of about 1:00:00" in terminal.getvalue()


def test_waiting_writes_nothing_elsewhere(capsys):
    with progress.waiting("compiling"):
        pass
    assert capsys.readouterr().err == ""

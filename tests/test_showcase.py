"""A training that has finished does not fail for what it shows."""

from types import SimpleNamespace

import made_up
import pytest

from clipa_jax import showcase, workdir
from clipa_jax.errors import DataError
from clipa_jax.interrupt import Stopped
from clipa_jax.report import page


@pytest.fixture
def lines(monkeypatch):
    """What is logged."""
    found = []
    for level in ("info", "warning"):
        write = lambda form, *args: found.append(form % args)  # noqa: E731
        monkeypatch.setattr(showcase.logging, level, write)
    return found


def finished(root):
    summary = workdir.write_summary(made_up.run(root), list(made_up.STAGES))
    logs = SimpleNamespace(compare=())
    folder = root / made_up.STAGES[-1]
    return summary, [SimpleNamespace(folder=folder, settings=SimpleNamespace(logs=logs))]


def test_the_end_writes_the_page_and_says_where(tmp_path, lines):
    showcase.end(tmp_path / "W", *finished(tmp_path / "W"))
    assert (tmp_path / "W" / page.NAME).exists()
    assert lines[-1] == f"wrote {tmp_path}/W/report.html"
    assert f"wrote {tmp_path}/W/accuracy.png" in lines


def test_a_page_that_cannot_be_drawn_is_one_line(tmp_path, lines, monkeypatch):
    def broken(runs, out):
        raise KeyError("no such thing")

    monkeypatch.setattr(page, "write", broken)
    showcase.end(tmp_path / "W", *finished(tmp_path / "W"))
    said = [line for line in lines if "report" in line]
    assert said == [
        f"no report: KeyError: 'no such thing'; python tools/report.py {tmp_path}/W writes it"
    ]
    assert f"wrote {tmp_path}/W/accuracy.png" in lines


def test_without_any_score_there_is_no_page(tmp_path, lines):
    summary, stages = finished(tmp_path / "W")
    for stage in summary["stages"]:
        stage["scores"] = {}
    showcase.end(tmp_path / "W", summary, stages)
    assert not (tmp_path / "W" / page.NAME).exists()


@pytest.mark.parametrize(
    ("error", "word"),
    [(Stopped(), "asked to stop"), (DataError("gone"), "gone"), (OSError("disk full"), "OSError")],
)
def test_what_fails_is_named(lines, error, word):
    def fail():
        raise error

    showcase._attempt("held-out pictures", fail, "; again")
    [line] = lines
    assert line.startswith("no held-out pictures") and word in line

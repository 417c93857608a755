"""A training that has finished does not fail for what it shows."""

from types import SimpleNamespace

import pytest

from clipa_jax import runs
from clipa_jax.errors import DataError
from clipa_jax.report import end_of_run, page
from clipa_jax.runtime.interrupt import Stopped
from clipa_jax.training import workdir
from tests.helpers import fake_runs


@pytest.fixture
def lines(monkeypatch):
    """What is logged."""
    found = []
    for level in ("info", "warning"):
        write = lambda form, *args: found.append(form % args)  # noqa: E731
        monkeypatch.setattr(end_of_run.logging, level, write)
    return found


def finished(root):
    summary = workdir.write_summary(fake_runs.run(root), list(fake_runs.STAGES))
    folder = root / fake_runs.STAGES[-1]
    return summary, [SimpleNamespace(folder=folder)]


def test_the_end_writes_the_page_and_says_where(tmp_path, lines):
    end_of_run.end(tmp_path / "W", *finished(tmp_path / "W"))
    assert (tmp_path / "W" / workdir.REPORT).exists()
    assert lines[-1] == f"wrote {tmp_path}/W/report.html"
    assert f"wrote {tmp_path}/W/accuracy.png" in lines


def test_evaluators_may_have_any_name(tmp_path, lines):
    root = tmp_path / "W"
    summary, stages = finished(root)
    for file in [*root.glob("*/*.json*"), root / "summary.json"]:
        text = file.read_text().replace('"zero_shot/', '"imagenet1k/')
        file.write_text(text.replace('"zero_shot": {', '"imagenet1k": {'))
    end_of_run.end(root, summary, stages)
    assert f"wrote {root}/accuracy.png" in lines
    [run] = runs.read([root])
    assert run.headline == "imagenet1k/top1"
    assert page.headlines(run)[0].value == "40.0 %"


def test_a_page_that_cannot_be_drawn_is_one_line(tmp_path, lines, monkeypatch):
    def broken(runs, out):
        raise KeyError("no such thing")

    monkeypatch.setattr(page, "write", broken)
    end_of_run.end(tmp_path / "W", *finished(tmp_path / "W"))
    said = [line for line in lines if "report" in line]
    assert said == [
        f"no report: KeyError: 'no such thing'; python tools/report.py {tmp_path}/W writes it"
    ]
    assert f"wrote {tmp_path}/W/accuracy.png" in lines


def test_without_any_score_there_is_no_page(tmp_path, lines):
    summary, stages = finished(tmp_path / "W")
    for stage in summary["stages"]:
        stage["scores"] = {}
    end_of_run.end(tmp_path / "W", summary, stages)
    assert not (tmp_path / "W" / workdir.REPORT).exists()


@pytest.mark.parametrize(
    ("error", "word"),
    [(Stopped(), "asked to stop"), (DataError("gone"), "gone"), (OSError("disk full"), "OSError")],
)
def test_what_fails_is_named(lines, error, word):
    def fail():
        raise error

    end_of_run._attempt("held-out pictures", fail, "; again")
    [line] = lines
    assert line.startswith("no held-out pictures") and word in line

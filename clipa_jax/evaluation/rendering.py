"""Evaluations and comparisons as tables: for a terminal, and in Markdown."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from clipa_jax.evaluation.comparability import ON_REQUEST
from clipa_jax.evaluation.record import Report
from clipa_jax.runtime import format
from clipa_jax.runtime.format import Row, is_share

_RIGHT = (2, 3, 4, 5, 6)  # columns of numbers
Table = Callable[[Sequence[Row]], str]


def text(report: Report) -> str:
    """An evaluation or a comparison for a terminal."""
    return "\n".join(_lines(report, lambda rows: format.table(rows, _RIGHT), "", "  "))


def markdown(report: Report) -> str:
    """An evaluation or a comparison as a Markdown file."""
    title = "# Comparison" if "a" in report else "# Evaluation"
    lines = _lines(report, lambda rows: format.markdown(rows, _RIGHT), "`", "- ")
    return "\n".join([title, "", *lines]) + "\n"


def scores(report: Report) -> str:
    """The table of an evaluation's scores, Markdown."""
    return format.markdown(list(_scores(report)), _RIGHT)


def _lines(report: Report, table: Table, tick: str, bullet: str) -> Iterator[str]:
    compared = "a" in report
    if compared:
        yield f"A: {_heading(report['a'], tick)}"
        yield from ("",) if tick else ()  # a paragraph of its own
        yield f"B: {_heading(report['b'], tick)}"
    else:
        yield _heading(report, tick)
    rows = list(_differences(report) if compared else _scores(report))
    if len(rows) > 1:
        yield from ("", table(rows))
    notes = list(_notes(report, compared))
    if notes:
        yield ""
        yield from (f"{bullet}{note}" for note in notes)


def _heading(report: Mapping[str, Any], tick: str) -> str:
    """The checkpoint, its weights and the devices."""
    env = report["environment"]
    devices = f"{env['devices']} x {env['device']}, jax {env['jax']}"
    return f"{tick}{report['checkpoint']}{tick}, weights {report['weights']}, on {devices}"


def _scores(report: Report) -> Iterator[Row]:
    yield ("evaluation", "metric", "value", "95 % interval", "samples", "seconds")
    for name, entry in report["evaluations"].items():
        seconds = f"{entry['seconds']:.1f}"
        for metric, row in entry["metrics"].items():
            yield (
                name,
                metric,
                _value(metric, row["value"]),
                _interval(metric, row),
                format.count(row["count"], none=""),
                seconds,
            )
            seconds = ""


def _differences(report: Report) -> Iterator[Row]:
    yield ("evaluation", "metric", "A", "B", "B - A", "95 % interval", "samples", "higher")
    for name, entry in report["evaluations"].items():
        for metric, row in entry["metrics"].items():
            # Neither is higher where the interval contains zero.
            differs = row["low"] is not None and not row["low"] <= 0 <= row["high"]
            yield (
                name,
                metric,
                _value(metric, row["a"]),
                _value(metric, row["b"]),
                _value(metric, row["difference"], "+"),
                _interval(metric, row, "+"),
                format.count(row["count"], none=""),
                ("B" if row["low"] > 0 else "A") if differs else "",
            )


def _notes(report: Report, compared: bool) -> Iterator[str]:
    for label in ("a", "b") if compared else ("",):
        part, prefix = (report[label], f"{label.upper()}: ") if label else (report, "")
        for change in part["differs"] or ():
            yield (
                f"{prefix}{change['key']} is {change['config']} here; the checkpoint was trained "
                f"with {change['checkpoint']}"
            )
        for name, entry in (part["missing"] or {}).items():
            message, command = entry["error"], entry["command"]
            if command and command not in message:
                message = f"{message}; make it with: {command}"
            missing = "missing: " if entry.get("looked") else ""
            yield f"{prefix}{name}: not evaluated: {missing}{message}"
    if compared:
        yield from _refusals(report)


def _refusals(report: Report) -> Iterator[str]:
    marks = {name: entry["marks"] for name, entry in report["evaluations"].items()}
    for names, note in _together(marks):
        yield f"{names}: {note['what']} differ: {note['a']} in A, {note['b']} in B"
    for names, note in _together(report["refused"]):
        other = f" in A, {note['b']} in B" if note["b"] else ""
        yield f"not compared, {note['what']} differ: {names}: {note['a']}{other}"
        if note["what"] in ON_REQUEST:
            yield f"--across={note['what']} compares nevertheless"
    for label in ("a", "b"):
        for name in report[f"only_{label}"]:
            yield f"{name} was evaluated in {label.upper()} alone"


def _together(notes: Mapping[str, Sequence[Mapping[str, str]]]) -> Iterator[tuple[str, Any]]:
    """Each distinct note once, with the names of all its evaluations."""
    names: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for name, entries in notes.items():
        for entry in entries:
            names.setdefault(tuple(entry.items()), []).append(name)
    for note, evaluations in names.items():
        yield ", ".join(evaluations), dict(note)


def _interval(metric: str, row: Mapping[str, Any], sign: str = "") -> str:
    if row["low"] is None:
        return ""
    low, high = (_value(metric, row[end], sign) for end in ("low", "high"))
    return f"{low.partition(' ')[0]} to {high}"  # the unit once


def _value(metric: str, value: float | None, sign: str = "") -> str:
    """A score, or with the sign "+" a difference: a share in percent, a loss as it is."""
    if value is None:
        return "not finite"
    if is_share(metric):
        return f"{100 * value:{sign}.2f} {'pp' if sign else '%'}"
    return f"{value:{'+.3g' if sign else '.4g'}}"

"""Evaluations and comparisons as tables: for a terminal, and in Markdown."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from clipa_jax.evaluation.comparison import ACROSS
from clipa_jax.evaluation.record import Report
from clipa_jax.runtime import format
from clipa_jax.runtime.format import Row, is_share

_RIGHT = (2, 3, 4, 5, 6)  # columns of numbers
Table = Callable[[Sequence[Row]], str]


def text(report: Report) -> str:
    """An evaluation or a comparison for a terminal."""
    return "\n".join(_said(report, lambda rows: format.table(rows, _RIGHT), "", "  "))


def markdown(report: Report) -> str:
    """An evaluation or a comparison as a Markdown file."""
    title = "# Comparison" if "a" in report else "# Evaluation"
    lines = _said(report, lambda rows: format.markdown(rows, _RIGHT), "`", "- ")
    return "\n".join([title, "", *lines]) + "\n"


def _said(report: Report, table: Table, tick: str, bullet: str) -> Iterator[str]:
    compared = "a" in report
    if compared:
        yield f"A: {_subject(report['a'], tick)}"
        yield from ("",) if tick else ()  # a paragraph of its own
        yield f"B: {_subject(report['b'], tick)}"
    else:
        yield _subject(report, tick)
    rows = list(_differences(report) if compared else _scores(report))
    if len(rows) > 1:
        yield from ("", table(rows))
    notes = list(_notes(report, compared))
    if notes:
        yield ""
        yield from (f"{bullet}{note}" for note in notes)


def _subject(report: Mapping[str, Any], tick: str) -> str:
    """What was evaluated, and on what."""
    env = report["environment"]
    devices = f"{env['devices']} x {env['device']}, jax {env['jax']}"
    return f"{tick}{report['checkpoint']}{tick}, weights {report['weights']}, on {devices}"


def _scores(report: Report) -> Iterator[Row]:
    yield ("evaluation", "metric", "value", "95 % interval", "samples", "seconds")
    for name, entry in report["evaluations"].items():
        seconds = f"{entry['seconds']:.1f}"
        for metric, told in entry["metrics"].items():
            show = _percent if is_share(metric) else _number
            yield (
                name,
                metric,
                show(told["value"]),
                _interval(told, show),
                format.count(told["count"], none=""),
                seconds,
            )
            seconds = ""


def _differences(report: Report) -> Iterator[Row]:
    yield ("evaluation", "metric", "A", "B", "B - A", "95 % interval", "samples", "higher")
    for name, entry in report["evaluations"].items():
        for metric, told in entry["metrics"].items():
            show = _percent if is_share(metric) else _number
            signed = _points if is_share(metric) else _signed
            yield (
                name,
                metric,
                show(told["a"]),
                show(told["b"]),
                signed(told["difference"]),
                _interval(told, signed),
                format.count(told["count"], none=""),
                _verdict(told),
            )


def _verdict(told: Mapping[str, Any]) -> str:
    """Which of the two is higher by the interval; nothing where that holds zero."""
    if told["low"] is None or told["low"] <= 0 <= told["high"]:
        return ""
    return "B" if told["low"] > 0 else "A"


def _notes(report: Report, compared: bool) -> Iterator[str]:
    for label in ("a", "b") if compared else ("",):
        part, who = (report[label], f"{label.upper()}: ") if label else (report, "")
        for one in part["differs"] or ():
            yield (
                f"{who}{one['key']} is {one['config']} here; the checkpoint was trained with "
                f"{one['checkpoint']}"
            )
        for name, one in (part["missing"] or {}).items():
            said = one["error"]
            if one["command"] and one["command"] not in said:
                said = f"{said}; make it with: {one['command']}"
            yield f"{who}{name} was not evaluated: {said}"
    if compared:
        yield from _refusals(report)


def _refusals(report: Report) -> Iterator[str]:
    marks = {name: entry["marks"] for name, entry in report["evaluations"].items()}
    for names, one in _together(marks):
        yield f"{names}: {one['what']} differ: {one['a']} in A, {one['b']} in B"
    for names, one in _together(report["refused"]):
        other = f" in A, {one['b']} in B" if one["b"] else ""
        yield f"not compared, {one['what']} differ: {names}: {one['a']}{other}"
        if one["what"] in ACROSS:
            yield f"--across={one['what']} compares nevertheless"
    for label in ("a", "b"):
        for name in report[f"only_{label}"]:
            yield f"{name} was evaluated in {label.upper()} alone"


def _together(said: Mapping[str, Sequence[Mapping[str, str]]]) -> Iterator[tuple[str, Any]]:
    """What is said of several evaluations, once, with all of their names."""
    names: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for name, entries in said.items():
        for entry in entries:
            names.setdefault(tuple(entry.items()), []).append(name)
    for entry_items, of in names.items():
        yield ", ".join(of), dict(entry_items)


def _interval(told: Mapping[str, Any], show: Callable[[float | None], str]) -> str:
    if told["low"] is None:
        return ""
    low = show(told["low"])
    return f"{low.partition(' ')[0]} to {show(told['high'])}"  # the unit once


def _percent(value: float | None) -> str:
    return format.percent(value, 2, none="not finite")


def _points(value: float | None) -> str:
    return "not finite" if value is None else f"{100 * value:+.2f} pp"


def _number(value: float | None) -> str:
    return format.number(value, ".4g", none="not finite")


def _signed(value: float | None) -> str:
    return format.number(value, "+.3g", none="not finite")

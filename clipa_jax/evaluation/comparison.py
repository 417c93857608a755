"""Differences between two evaluations, metric by metric, on the samples that both have.

The difference is b - a. Scores are compared only where data, preprocessing, prompts and options
agree; `across` names what may differ nevertheless, which the result then records.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from clipa_jax.evaluation import comparability
from clipa_jax.evaluation.record import Record, Report
from clipa_jax.evaluators import bootstrap
from clipa_jax.evaluators.outcome import Outcome

NAME = "comparison.json"
_SHOWN = {
    "data": "{source}, split {split} ({data_fingerprint})",
    "prompts": "{prompts_fingerprint}",
}


def compare(a: Record, b: Record, across: Collection[str] = ()) -> Report:
    """The content of comparison.json; `across` names keys that may differ."""
    entries_a, entries_b = a.report["evaluations"], b.report["evaluations"]
    evaluations, refused = {}, {}
    for name in (name for name in entries_a if name in entries_b):
        differ = list(differences(entries_a[name], entries_b[name]))
        reasons = [difference for difference in differ if difference["what"] not in across]
        try:
            metrics = {} if reasons else _metrics(a, b, name)
        except ValueError as error:
            metrics, reasons = {}, [{"what": "data", "a": f"{error}", "b": ""}]
        if metrics:
            evaluations[name] = {"metrics": metrics, "marks": [*differ, *_sample_warnings(metrics)]}
        else:
            refused[name] = reasons or [{"what": "samples", "a": "none in common", "b": ""}]
    return {
        "a": _checkpoint(a.report),
        "b": _checkpoint(b.report),
        "evaluations": evaluations,
        "refused": refused,
        "only_a": [name for name in entries_a if name not in entries_b],
        "only_b": [name for name in entries_b if name not in entries_a],
    }


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """The keys that make two entries of `evaluations` incomparable.

    Yields dicts of `what`, the name of a key of `comparability`, and its value in `a` and in `b`.
    """
    facts = [comparability.of_evaluation("", {}, entry) for entry in (a, b)]
    for what in dict.fromkeys(
        comparability.differing(facts, [""], comparability.OF_SAMPLES).values()
    ):
        if what == "options":
            shown = _options(a, b)
        else:
            shown = [_SHOWN.get(what, f"{{{what}}}").format_map(entry) for entry in (a, b)]
        yield {"what": what, "a": shown[0], "b": shown[1]}


def _options(*entries: Mapping[str, Any]) -> list[str]:
    """The options in which entries differ."""
    options = [comparability.options(entry["options"]) for entry in entries]
    keys = sorted({key for known in options for key in known})
    differ = [key for key in keys if options[0].get(key) != options[1].get(key)]
    return [", ".join(f"{key}={known.get(key)!r}" for key in differ) for known in options]


def _metrics(a: Record, b: Record, name: str) -> dict[str, Any]:
    outcomes_a, outcomes_b = a.outcomes[name], b.outcomes[name]
    pairs = {
        metric: _pair(outcome, outcomes_b[metric])
        for metric, outcome in outcomes_a.items()
        if metric in outcomes_b
    }
    return {metric: entry for metric, entry in pairs.items() if entry is not None}


def _pair(a: Outcome, b: Outcome) -> dict[str, Any] | None:
    paired = bootstrap.difference(a, b)
    if paired is None:
        return None
    finite = paired.low == paired.low
    return {
        "a": paired.a,
        "b": paired.b,
        "difference": paired.value if finite else None,
        "low": paired.low if finite else None,
        "high": paired.high if finite else None,
        "count": paired.count,
        "count_a": a.count,
        "count_b": b.count,
    }


def _sample_warnings(metrics: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, str]]:
    """One warning if the samples are not the same in both."""
    for metric, entry in metrics.items():
        if entry["count_a"] != entry["count"] or entry["count_b"] != entry["count"]:
            both = f"{entry['count']:,} of them in both ({metric})"
            yield {
                "what": "samples",
                "a": f"{entry['count_a']:,} samples, {both}",
                "b": f"{entry['count_b']:,} samples, {both}",
            }
            return


def _checkpoint(report: Report) -> dict[str, Any]:
    keys = ("checkpoint", "weights", "environment", "differs", "missing")
    return {key: report.get(key) for key in keys}

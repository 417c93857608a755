"""Two evaluations, metric by metric, on the samples that both have.

What `b` has more than `a`: the difference is b - a. Scores are only compared where data,
preprocessing, prompts and options are the same; `across` lets named ones differ, which the result
then says.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from clipa_jax.evaluation.record import Record, Report
from clipa_jax.evaluators import bootstrap
from clipa_jax.evaluators.outcome import Outcome

NAME = "comparison.json"
ACROSS = ("preprocess", "prompts", "options")  # what a comparison may be made across, on request
# Options that the fingerprints speak for, or that change no number.
_TOLD_ELSEWHERE = frozenset(
    ("source", "split", "preprocess", "classes", "templates", "canonicalize", "batch_size")
    + ("dataset", "root", "language", "train_source", "train_split")
)


def compare(a: Record, b: Record, across: Collection[str] = ()) -> Report:
    """The content of comparison.json.

    Args:
      a, b: the evaluations.
      across: of `ACROSS`, what may differ.
    """
    there, here = a.report["evaluations"], b.report["evaluations"]
    evaluations, refused = {}, {}
    for name in (name for name in there if name in here):
        differ = list(differences(there[name], here[name]))
        wrong = [one for one in differ if one["what"] not in across]
        try:
            metrics = {} if wrong else _metrics(a, b, name)
        except ValueError as error:
            metrics, wrong = {}, [{"what": "data", "a": f"{error}", "b": ""}]
        if metrics:
            evaluations[name] = {"metrics": metrics, "marks": [*differ, *_marks(metrics)]}
        else:
            refused[name] = wrong or [{"what": "samples", "a": "none in common", "b": ""}]
    return {
        "a": _of(a.report),
        "b": _of(b.report),
        "evaluations": evaluations,
        "refused": refused,
        "only_a": [name for name in there if name not in here],
        "only_b": [name for name in here if name not in there],
    }


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """What makes two entries of `evaluations` numbers of different kinds.

    Yields:
      what: type, data, preprocess, prompts or options; and what it is in `a` and in `b`.
    """
    for what, key, shown in (
        ("type", "type", "{type}"),
        ("data", "data_fingerprint", "{source}, split {split} ({data_fingerprint})"),
        ("preprocess", "preprocess_fingerprint", "{preprocess}"),
        ("prompts", "prompts_fingerprint", "{prompts_fingerprint}"),
    ):
        if a[key] != b[key]:
            yield {"what": what, "a": shown.format_map(a), "b": shown.format_map(b)}
    ours, theirs = _options(a), _options(b)
    keys = [key for key in sorted({*ours, *theirs}) if ours.get(key) != theirs.get(key)]
    if keys:
        yield {
            "what": "options",
            "a": ", ".join(f"{key}={ours.get(key)!r}" for key in keys),
            "b": ", ".join(f"{key}={theirs.get(key)!r}" for key in keys),
        }


def _options(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry["options"].items() if key not in _TOLD_ELSEWHERE}


def _metrics(a: Record, b: Record, name: str) -> dict[str, Any]:
    there = a.report["evaluations"][name]["metrics"]
    here = b.report["evaluations"][name]["metrics"]
    found = {}
    for metric in (metric for metric in there if metric in here):
        ours, theirs = a.outcomes[name].get(metric), b.outcomes[name].get(metric)
        if ours is None or theirs is None:
            entry = _plain(there[metric], here[metric])
        else:
            entry = _pair(ours, theirs)
        if entry is not None:
            found[metric] = entry
    return found


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


def _plain(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any] | None:
    """The difference of two numbers without samples."""
    if a["value"] is None or b["value"] is None:
        return None
    nothing = dict.fromkeys(("low", "high", "count", "count_a", "count_b"))
    values = {"a": a["value"], "b": b["value"], "difference": b["value"] - a["value"]}
    return values | nothing


def _marks(metrics: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, str]]:
    """Says once if the samples are not the same in both."""
    for metric, entry in metrics.items():
        if entry["count_a"] != entry["count"] or entry["count_b"] != entry["count"]:
            both = f"{entry['count']:,} of them in both ({metric})"
            yield {
                "what": "samples",
                "a": f"{entry['count_a']:,} samples, {both}",
                "b": f"{entry['count_b']:,} samples, {both}",
            }
            return


def _of(report: Report) -> dict[str, Any]:
    keys = ("checkpoint", "weights", "environment", "differs", "missing")
    return {key: report.get(key) for key in keys}

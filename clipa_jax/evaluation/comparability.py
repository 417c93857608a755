"""Comparability of results: the one list of what must agree.

`TRAINING_KEYS` and `EVALUATION_KEYS` list the keys. They are applied by

- the report of several runs or stages (`report/results.py`): results that differ are shown with a
  warning; `OF_STAGES` may differ
- sweeps (`report/groups.py`): runs that differ form groups of their own; `OF_STAGES` may differ.
  Runs of a group that differ in another setting of the config (`is_setting`) are refused
- `evaluate --compare` (`evaluation/comparison.py`): evaluations that differ are refused;
  `OF_SAMPLES` may differ, and the keys of `ON_REQUEST` that `--across` names

A result is described by flat facts, such as `train.source` of its training data and
`zero_shot.split` of the evaluator `zero_shot`. A fact that is None was not recorded (older
versions recorded less) and agrees with every other.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from clipa_jax.training import workdir

Facts = Mapping[str, str | None]
TRAIN = "train"


class Key(NamedTuple):
    """Something in which comparable results agree, and the facts that show it, best first.

    A fact is used only if no earlier one was recorded for every result.
    """

    name: str
    facts: tuple[str, ...]


# Facts by `train.` and by `<evaluator>.`: what must agree, in the order of the messages.
TRAINING_KEYS = (
    Key("training data", ("fingerprint", "shards", "source")),
    Key("training split", ("split",)),
)
EVALUATION_KEYS = (
    Key("type", ("type",)),
    Key("data", ("data", "source")),
    Key("split", ("split",)),
    Key("number of samples", ("count",)),
    Key("preprocess", ("resolved_ops", "ops")),
    Key("prompts", ("prompts", "wording")),
    Key("options", ("options",)),
)
# Exemptions: what may differ in a comparison, although it is listed above. `RESOLUTION` stands for
# the operations with the resolution filled in; the operations as written still count.
RESOLUTION = "resolved_ops"
OF_STAGES = (RESOLUTION,)  # of a run, or of a sweep over resolutions
OF_SAMPLES = ("split", "number of samples")  # samples are paired by name, unpaired ones left out
ON_REQUEST = ("preprocess", "prompts", "options")  # evaluate --across=
# Settings of the first stage in which the points of the inverse scaling law differ.
OF_LAW = ("seed", "model.size", "input.res", "input.text_len", "input.reduction", "mask.name") + (
    "mask.ratio",
    "optim.lr_per_256",  # small towers take a higher one
)
# Settings that change no result, that follow from others, or that facts cover.
_NO_SETTING = tuple(key for key in workdir.MAY_CHANGE if key != "init")
_DERIVED = (
    "input.source",
    "input.split",
    "name",
    "after",
    "image_tokens",
    "text_tokens",
    "num_params",
)
# Options that other facts cover, or that change no score.
_WORDING = ("classes", "templates", "canonicalize", "language")
_COVERED = (*_WORDING, "type", "when", "source", "split", "train_source", "train_split") + (
    "dataset",
    "root",
    "preprocess",
    "batch_size",
)


def is_setting(key: str) -> bool:
    """Whether a config key, without its stage, changes a result beyond the facts on its data."""
    return key not in _DERIVED and not key.startswith(_NO_SETTING)


def of_training(
    config: Mapping[str, Any], result: Mapping[str, Any], environment: Mapping[str, Any]
) -> dict[str, str | None]:
    """The facts of a stage's training, from its config, result.json and environment.json.

    The latter two are empty where there is no such file.
    """
    section = config.get("input") or {}
    facts = {
        "fingerprint": result.get("data"),
        "shards": (environment.get("data") or {}).get("fingerprint"),
        "source": section.get("source"),
        "split": section.get("split"),
    }
    return {f"{TRAIN}.{fact}": _text(value) for fact, value in facts.items()}


def of_evaluation(
    name: str, section: Mapping[str, Any], entry: Mapping[str, Any]
) -> dict[str, str | None]:
    """The facts of one evaluator's results.

    `section` is its part of the config, `entry` its part of evaluation.json; either may be empty.
    """
    written = {**section, **(entry.get("options") or {})}
    known = bool(written) or "options" in entry
    facts = {
        "type": entry.get("type", section.get("type")),
        "data": entry.get("data_fingerprint"),
        "source": entry.get("source", section.get("source")),
        "split": entry.get("split", section.get("split")),
        "count": entry.get("count"),
        "resolved_ops": entry.get("preprocess_fingerprint"),
        "ops": (written.get("preprocess") or "default") if known else None,
        "prompts": entry.get("prompts_fingerprint"),
        "wording": _json({key: written.get(key) for key in _WORDING}) if known else None,
        "options": _json(options(written)) if known else None,
    }
    return {f"{name}.{fact}": _text(value) for fact, value in facts.items()}


def options(written: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an evaluator that change its scores and that no other fact covers."""
    return {key: value for key, value in written.items() if key not in _COVERED}


def without_options(facts: Facts, names: Collection[str]) -> dict[str, str | None]:
    """The facts less some options, which are named as in a config: `evals.contrastive.ks`."""
    shorter = dict(facts)
    for name in names:
        section, _, rest = name.partition(".")
        evaluator, _, option = rest.partition(".")
        written = shorter.get(fact := f"{evaluator}.options")
        if section == "evals" and written:
            kept = {key: value for key, value in json.loads(written).items() if key != option}
            shorter[fact] = _json(kept)
    return shorter


def differing(
    results: Sequence[Facts], evaluators: Collection[str], exempt: Collection[str] = ()
) -> dict[str, str]:
    """The facts in which results differ, with the name of the key that each belongs to.

    `evaluators` are those whose scores are compared; `TRAIN` stands for the training data. `exempt`
    names keys or single facts that may differ.
    """
    differences: dict[str, str] = {}
    for owner in evaluators:
        for key in TRAINING_KEYS if owner == TRAIN else EVALUATION_KEYS:
            if key.name not in exempt:
                facts = [f"{owner}.{fact}" for fact in key.facts if fact not in exempt]
                differences |= dict.fromkeys(_differing(results, facts), key.name)
    return differences


def _differing(results: Sequence[Facts], facts: Sequence[str]) -> Iterator[str]:
    for fact in facts:
        values = [result.get(fact) for result in results]
        if len(set(values) - {None}) > 1:
            yield fact
        if None not in values:
            return


def letters(results: Sequence[Facts], facts: Sequence[str]) -> tuple[list[str], list[str]]:
    """A letter per result by its values of some facts, "" without facts; the letters' legend."""
    if not facts:
        return ["" for _ in results], []
    kinds: dict[tuple[str | None, ...], str] = {}
    by_result = []
    for result in results:
        kind = tuple(result.get(fact) for fact in facts)
        by_result.append(kinds.setdefault(kind, _letter(len(kinds))))
    legend = [
        f"{letter}: " + ", ".join(f"{f} {v or '?'}" for f, v in zip(facts, kind, strict=True))
        for kind, letter in kinds.items()
    ]
    return by_result, legend


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else f"Z{number}"


def _json(values: Mapping[str, Any]) -> str:
    """Canonical JSON; an option that is None counts as not given."""
    given = {key: value for key, value in values.items() if value is not None}
    return json.dumps(given, sort_keys=True, default=str)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)

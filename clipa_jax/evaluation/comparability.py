"""Which data a row is about, so that rows of different data are never taken for repeats.

A field that was not recorded (runs of an older version) says nothing: it agrees with all.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from clipa_jax.evaluation.rows import Row

TRAIN, SOURCE, SPLIT = "train.fingerprint", "train.source", "train.split"
# Of an evaluation: fingerprints of its data and of its texts, how many samples it had.
DATA, WHERE, REST = "data", "source", ("split", "count", "prompts")


def of(
    config: Mapping[str, Any], result: Mapping[str, Any], evaluation: Mapping[str, Any]
) -> dict[str, str | None]:
    """The data of a stage.

    Args:
      config: of the stage, nested.
      result: its entry in summary.json.
      evaluation: the content of its evaluation.json; empty where there is none.
    """
    section = config.get("input") or {}
    found = {
        TRAIN: _text(result.get("data")),
        SOURCE: _text(section.get("source")),
        SPLIT: _text(section.get("split")),
    }
    written = evaluation.get("evaluations") or {}
    for name in {key.partition("/")[0] for key in result.get("scores") or {}}:
        one = {**(config.get("evals") or {}).get(name, {}), **written.get(name, {})}
        one |= {DATA: one.get("data_fingerprint"), "prompts": one.get("prompts_fingerprint")}
        found |= {f"{name}.{key}": _text(one.get(key)) for key in (DATA, WHERE, *REST)}
    return found


def differing(rows: Sequence[Row], metrics: Iterable[str]) -> list[str]:
    """The fields in which rows are known to be about different data.

    Args:
      rows: two or more.
      metrics: which scores are looked at; only their evaluators count.
    """
    fields = [*_where(rows, TRAIN, SOURCE), SPLIT]
    for name in sorted({metric.partition("/")[0] for metric in metrics}):
        fields += _where(rows, f"{name}.{DATA}", f"{name}.{WHERE}")
        fields += [f"{name}.{key}" for key in REST]
    return [field for field in fields if len(_known(rows, field)) > 1]


def _where(rows: Sequence[Row], fingerprint: str, source: str) -> list[str]:
    """Fields that say where samples came from; fingerprints do better than paths."""
    unknown = any(row.data.get(fingerprint) is None for row in rows)
    return [fingerprint, source] if unknown else [fingerprint]


def marks(rows: Sequence[Row], metrics: Iterable[str]) -> tuple[list[str], list[str]]:
    """Tells rows of different data apart.

    Returns:
      (a letter for each row, "" throughout if all data agree; what each letter stands for).
    """
    fields = differing(rows, metrics)
    if not fields:
        return ["" for _ in rows], []
    kinds: dict[tuple[str | None, ...], str] = {}
    letters = []
    for row in rows:
        kind = tuple(row.data.get(field) for field in fields)
        letters.append(kinds.setdefault(kind, _letter(len(kinds))))
    legend = [
        f"{letter}: " + ", ".join(f"{f} {v or '?'}" for f, v in zip(fields, kind, strict=True))
        for kind, letter in kinds.items()
    ]
    return letters, legend


def _known(rows: Iterable[Row], field: str) -> set[str]:
    return {value for row in rows if (value := row.data.get(field)) is not None}


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else f"Z{number}"


def _text(value: Any) -> str | None:
    return None if value is None else str(value)

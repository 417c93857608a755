"""Outcomes in a file, for later comparisons.

A .npz archive of plain arrays, each distinct one stored once, with an index in JSON. Nothing is
pickled or unpickled.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from clipa_jax.errors import UserError
from clipa_jax.evaluators.outcome import STATISTICS, Outcome
from clipa_jax.runtime import files
from clipa_jax.runtime.files import Path

Outcomes = Mapping[str, Mapping[str, Outcome]]  # by evaluation and metric
INDEX = "index"


def save(file: Path, outcomes: Outcomes) -> None:
    """Writes outcomes; a kill leaves the old file or the new one."""
    arrays: dict[str, np.ndarray] = {}
    names: dict[str, str] = {}

    def keep(array: np.ndarray) -> str:
        key = f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
        name = names.setdefault(key, f"array_{len(names)}")
        arrays[name] = array
        return name

    index: dict[str, dict[str, Any]] = {}
    for evaluation, metrics in outcomes.items():
        index[evaluation] = {
            metric: {
                "kind": outcome.kind,
                "ids": keep(outcome.ids),
                "unit": None if outcome.unit_N is None else keep(outcome.unit_N),
                "arrays": {name: keep(np.asarray(rows)) for name, rows in outcome.arrays.items()},
            }
            for metric, outcome in metrics.items()
        }
    arrays[INDEX] = np.asarray(json.dumps(index))
    archive = io.BytesIO()
    np.savez_compressed(archive, **arrays)  # type: ignore[arg-type]  # as in weights/npz.py
    files.write_bytes(file, archive.getvalue())


def load(file: Path) -> dict[str, dict[str, Outcome]]:
    """Reads what `save` wrote; `UserError` if there is no such file or it is another."""
    try:
        with files.open(file) as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        index = json.loads(str(arrays[INDEX]))
        return {
            evaluation: {metric: _outcome(entry, arrays) for metric, entry in metrics.items()}
            for evaluation, metrics in index.items()
        }
    except FileNotFoundError:
        raise UserError(
            f"no file {file} with the values per sample, which belongs beside the .json"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{file} does not hold outcomes as evaluations write them ({type(error).__name__}: "
            f"{error})"
        ) from None


def _outcome(entry: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Outcome:
    if entry["kind"] not in STATISTICS:
        raise ValueError(f"unknown statistic {entry['kind']!r}")
    unit = entry["unit"]
    return Outcome.of(
        entry["kind"],
        arrays[entry["ids"]],
        unit_N=None if unit is None else arrays[unit],
        **{name: arrays[array] for name, array in entry["arrays"].items()},
    )

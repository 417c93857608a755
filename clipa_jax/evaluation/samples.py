"""Outcomes in a file: what each metric says of each sample, for comparisons later on.

A .npz archive of plain arrays, of which equal ones are stored once, with an index in JSON.
Nothing in it is pickled, and nothing is unpickled when it is read.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clipa_jax.errors import UserError
from clipa_jax.evaluators.outcome import STATISTICS, Outcome
from clipa_jax.runtime import files

Outcomes = Mapping[str, Mapping[str, Outcome]]  # by evaluation and metric
INDEX = "index"


def save(file: Path, outcomes: Outcomes) -> None:
    """Writes outcomes that have samples; a kill leaves the old file or the new one."""
    arrays: dict[str, np.ndarray] = {}
    known: dict[str, str] = {}

    def keep(array: np.ndarray) -> str:
        mark = f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
        name = known.setdefault(mark, f"array_{len(known)}")
        arrays[name] = array
        return name

    index: dict[str, dict[str, Any]] = {}
    for evaluation, metrics in outcomes.items():
        index[evaluation] = {
            metric: {
                "kind": one.kind,
                "ids": keep(one.ids),
                "unit": None if one.unit_N is None else keep(one.unit_N),
                "arrays": {name: keep(np.asarray(rows)) for name, rows in one.arrays.items()},
            }
            for metric, one in metrics.items()
            if one.ids is not None
        }
    arrays[INDEX] = np.asarray(json.dumps(index))
    archive = io.BytesIO()
    np.savez_compressed(archive, **arrays)  # type: ignore[arg-type]  # as in weights/npz.py
    files.write_bytes(file, archive.getvalue())


def load(file: Path) -> dict[str, dict[str, Outcome]]:
    """What `save` wrote.

    Raises:
      UserError: there is no such file, or it is of another form.
    """
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        index = json.loads(str(arrays[INDEX]))
        return {
            evaluation: {metric: _outcome(entry, arrays) for metric, entry in metrics.items()}
            for evaluation, metrics in index.items()
        }
    except FileNotFoundError:
        raise UserError(
            f"no file {file}: it holds what was said of each sample, and lies beside the .json"
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

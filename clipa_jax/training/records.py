"""The records of metrics.jsonl: one line of JSON per write, `{"step": .., "seconds": .., ..}`."""

import json
from collections.abc import Iterator
from typing import Any

from clipa_jax.runtime import files
from clipa_jax.runtime.files import PathLike

STEP, SECONDS = "step", "seconds"
LOST = "lost/"  # before the cause: share of the wall time, see efficiency.py
SKIPPED = "data/skipped/"  # before the reason: how many samples could not be used
TRAIN_SECONDS = "train_seconds"  # the trainer's clock, which stops during evaluation


def read(path: PathLike) -> list[dict[str, Any]]:
    """The records of a file, one per step, in the order of steps.

    Lines of one step are joined; a later value wins. A torn last line is left out.
    """
    joined: dict[int, dict[str, Any]] = {}
    for record in whole(path):
        joined.setdefault(record[STEP], {}).update(record)
    return [joined[step] for step in sorted(joined)]


def whole(path: PathLike) -> Iterator[dict[str, Any]]:
    """The lines of a file that a kill did not cut short."""
    for line in files.read_text(path).splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and STEP in record:
            yield record

"""Rows of all finished runs below some folders, and the points of a sweep that are missing."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from clipa_jax import runs
from clipa_jax.errors import DataError, UserError
from clipa_jax.report import rows
from clipa_jax.report.rows import Row
from clipa_jax.runtime.files import Path
from clipa_jax.training import workdir


@dataclass
class Collected:
    """The finished stages in some folders, unfinished points of sweeps, and what is damaged."""

    rows: list[Row] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def read(places: Sequence[Path]) -> Collected:
    """All runs below some folders, or in tables that `rows.save` wrote; `DataError` if none."""
    collected = Collected()
    for place in places:
        prefix = f"{place}/" if len(places) > 1 else ""
        before = len(collected.rows) + len(collected.broken)
        if place.is_file():
            collected.rows += rows.load(place)
        elif place.is_dir():
            for folder in runs.finished(place):
                _read_run(folder, prefix + str(folder.relative_to(place)), collected)
            collected.missing += [prefix + name for name in runs.unfinished_points(place)]
        else:
            raise DataError(f"no folder {place}; give a folder with runs below it")
        if before == len(collected.rows) + len(collected.broken):
            raise DataError(
                f"no finished run in {place}: looked for {workdir.SUMMARY}, which "
                "`python -m clipa_jax.train` writes at its end"
            )
    return collected


def _read_run(folder: Path, name: str, collected: Collected) -> None:
    """Adds the finished stages of a run."""
    stages: dict[str, Row] = {}
    damaged: list[str] = []
    try:
        runs.summary(folder)  # complains about what `read_one` tolerates
        for stage in runs.read_one(folder).stages:
            if stage.result:
                stages[stage.name] = rows.of_stage(name, stage, stages)
            damaged += stage.damaged
    except (UserError, KeyError, TypeError, AttributeError) as error:
        reason = str(error) if isinstance(error, UserError) else f"it lacks {error}"
        collected.broken.append(f"{folder} is left out: {reason}")
        return
    collected.rows += stages.values()
    collected.broken += damaged

"""Missing parts of a report, with the commands that produce them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from shlex import quote

from clipa_jax.report import tables
from clipa_jax.runs import Run, Stage
from clipa_jax.training import workdir


@dataclass(frozen=True)
class Absent:
    """Something that is missing, the files that would hold it, and the commands that produce it.

    `why` is "" where it is obvious; `commands` is empty if it cannot be made after the run.
    """

    what: str
    where: str
    why: str = ""
    commands: tuple[str, ...] = ()


def of(run: Run) -> list[Absent]:
    """Everything that is missing of a run."""
    root, stages = quote(str(run.root)), run.stages
    absent = [Absent("something that cannot be read", "", text) for text in run.damaged]
    if unfinished := _names(stage for stage in stages if not stage.result):
        command = f"python -m clipa_jax.train --config=CONFIG.py --workdir={root}"
        why = "not finished: the numbers here are those so far"
        absent.append(Absent(f"the end of {unfinished}", "", why, (command,)))
    absent += _not_evaluated(stages)
    if bare := _names(stage for stage in stages if not stage.records):
        absent.append(Absent(f"the curves of {bare}", _each(run, workdir.METRICS)))
    if plain := [s for s in stages if s.result and not s.evaluation and s.scores]:
        what, commands = f"intervals of the results of {_names(plain)}", map(_evaluate, plain)
        absent.append(Absent(what, _each(run, workdir.EVALUATION), "", tuple(commands)))
    bare_pictures = [stage for stage in stages if stage.result and not stage.held_out]
    where = _each(run, workdir.HELD_OUT)
    if possible := _names(stage for stage in bare_pictures if _has_pictures(stage)):
        command = f"python tools/report.py {root} --look"
        absent.append(Absent(f"held-out pictures of {possible}", where, "", (command,)))
    if others := _names(stage for stage in bare_pictures if not _has_pictures(stage)):
        why = "the config has no evaluator of type zero_shot or retrieval"
        absent.append(Absent(f"held-out pictures of {others}", where, why))
    if bare := _names(stage for stage in stages if not stage.environment):
        why = "the trainer writes it as a stage begins"
        where = _each(run, workdir.ENVIRONMENT)
        absent.append(Absent(f"the environment of {bare}", where, why))
    if tables.plan(run) is None:
        file = run.root / workdir.PLAN
        why = "none of the stages is in it" if run.plan else ""
        command = "python tools/plan.py --config=CONFIG.py --device=CHIP --chips=N"
        command += f" --json={quote(str(file))}"
        absent.append(Absent("a plan to compare with", str(file), why, (command,)))
    return absent


def _not_evaluated(stages: Iterable[Stage]) -> Iterator[Absent]:
    """Evaluators that had no data, once for all stages."""
    by_set: dict[tuple[str, str, str], list[Stage]] = {}
    for stage in stages:
        for name, entry in ((stage.evaluation or {}).get("missing") or {}).items():
            where, command = entry.get("looked") or "", entry.get("command") or ""
            by_set.setdefault((name, where, command), []).append(stage)
    for (name, where, command), lacking in by_set.items():
        what, commands = f"{name} of {_names(lacking)}", (command,) if command else ()
        yield Absent(what, where, "not evaluated: missing", commands)


def _evaluate(stage: Stage) -> str:
    """The command that evaluates a stage."""
    folder, out = (quote(str(path)) for path in (stage.folder, stage.folder / workdir.EVALUATION))
    return f"python -m clipa_jax.evaluate --config=CONFIG.py --checkpoint={folder} --out={out}"


def _has_pictures(stage: Stage) -> bool:
    types = [section.get("type") for section in stage.evals.values()]
    return "zero_shot" in types or "retrieval" in types


def _names(stages: Iterable[Stage]) -> str:
    return ", ".join(stage.name for stage in stages)


def _each(run: Run, name: str) -> str:
    """The file of that name in each stage."""
    return f"{run.root}/STAGE/{name}"

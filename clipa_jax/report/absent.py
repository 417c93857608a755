"""What a report could show and cannot, and the command that would make it."""

from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote

from clipa_jax.report import held_out, results, runs, tables
from clipa_jax.report.runs import Run, Stage
from clipa_jax.training import metrics


@dataclass(frozen=True)
class Absent:
    """Something that is not there.

    Attributes:
      what: for example "intervals of the results of finetune_1".
      where: the files that would hold it.
      why: in a few words; "" where that is plain.
      commands: that make it; none where nothing can, after the run.
    """

    what: str
    where: str
    why: str = ""
    commands: tuple[str, ...] = ()


def of(run: Run) -> list[Absent]:
    """All that is absent of one run."""
    found = [Absent("something that cannot be read", "", sentence) for sentence in run.damaged]
    for make in (_ends, _curves, _intervals, _looks, _environments, _plans):
        found += make(run)
    return found


def _ends(run: Run) -> list[Absent]:
    open_ = [stage for stage in run.stages if not stage.result]
    command = f"python -m clipa_jax.train --config=CONFIG.py --workdir={quote(str(run.root))}"
    why = "not finished: the numbers here are those so far"
    return [Absent(f"the end of {_names(open_)}", "", why, (command,))] if open_ else []


def _curves(run: Run) -> list[Absent]:
    bare = [stage for stage in run.stages if not stage.records]
    where = _each(run, metrics.RECORDS)
    return [Absent(f"the curves of {_names(bare)}", where)] if bare else []


def _intervals(run: Run) -> list[Absent]:
    bare = [s for s in run.stages if s.result and not s.evaluation and results.scores(s)]
    commands = tuple(
        f"python -m clipa_jax.evaluate --config=CONFIG.py --checkpoint={quote(str(stage.folder))} "
        f"--out={quote(str(stage.folder / runs.EVALUATION))}"
        for stage in bare
    )
    what = f"intervals of the results of {_names(bare)}"
    return [Absent(what, _each(run, runs.EVALUATION), "", commands)] if bare else []


def _looks(run: Run) -> list[Absent]:
    bare = [stage for stage in run.stages if stage.result and not stage.held_out]
    sees = [stage for stage in bare if _can_look(stage)]
    command = f"python tools/report.py {quote(str(run.root))} --look"
    where, found = _each(run, held_out.TEXTS), []
    if sees:
        found.append(Absent(f"held-out pictures of {_names(sees)}", where, "", (command,)))
    if blind := [stage for stage in bare if stage not in sees]:
        why = "the config has no evaluator of type zero_shot or retrieval to look through"
        found.append(Absent(f"held-out pictures of {_names(blind)}", where, why))
    return found


def _environments(run: Run) -> list[Absent]:
    bare = [stage for stage in run.stages if not stage.environment]
    why = "the trainer writes it at the end of a stage"
    where = _each(run, runs.ENVIRONMENT)
    return [Absent(f"the environment of {_names(bare)}", where, why)] if bare else []


def _plans(run: Run) -> list[Absent]:
    if tables.plan(run) is not None:
        return []
    file = run.root / runs.PLAN
    why = "none of the stages is in it" if run.plan else ""
    command = "python tools/plan.py --config=CONFIG.py --device=CHIP --chips=N"
    return [
        Absent("a plan to compare with", str(file), why, (f"{command} --json={quote(str(file))}",))
    ]


def _can_look(stage: Stage) -> bool:
    kinds = [section.get("type") for section in stage.config.get("evals", {}).values()]
    return "zero_shot" in kinds or "retrieval" in kinds


def _names(stages: Sequence[Stage]) -> str:
    return ", ".join(stage.name for stage in stages)


def _each(run: Run, name: str) -> str:
    """The file of that name in each stage."""
    return f"{run.root}/STAGE/{name}"

"""What a report could show but lacks, with the commands that would produce it."""

from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote

from clipa_jax.report import tables
from clipa_jax.runs import Run, Stage
from clipa_jax.training import workdir


@dataclass(frozen=True)
class Absent:
    """Something that is missing.

    Attributes:
      what: for example "intervals of the results of finetune_1".
      where: the files that would hold it.
      why: in a few words; "" where that is plain.
      commands: that produce it; none where nothing can after the run.
    """

    what: str
    where: str
    why: str = ""
    commands: tuple[str, ...] = ()


def of(run: Run) -> list[Absent]:
    """Everything that is missing of a run."""
    return [
        *(Absent("something that cannot be read", "", text) for text in run.damaged),
        *_ends(run),
        *_curves(run),
        *_intervals(run),
        *_held_out(run),
        *_environments(run),
        *_plans(run),
    ]


def _ends(run: Run) -> list[Absent]:
    open_ = [stage for stage in run.stages if not stage.result]
    command = f"python -m clipa_jax.train --config=CONFIG.py --workdir={quote(str(run.root))}"
    why = "not finished: the numbers here are those so far"
    return [Absent(f"the end of {_names(open_)}", "", why, (command,))] if open_ else []


def _curves(run: Run) -> list[Absent]:
    bare = [stage for stage in run.stages if not stage.records]
    where = _each(run, workdir.METRICS)
    return [Absent(f"the curves of {_names(bare)}", where)] if bare else []


def _intervals(run: Run) -> list[Absent]:
    bare = [stage for stage in run.stages if stage.result and not stage.evaluation and stage.scores]
    commands = tuple(
        f"python -m clipa_jax.evaluate --config=CONFIG.py --checkpoint={quote(str(stage.folder))} "
        f"--out={quote(str(stage.folder / workdir.EVALUATION))}"
        for stage in bare
    )
    what = f"intervals of the results of {_names(bare)}"
    return [Absent(what, _each(run, workdir.EVALUATION), "", commands)] if bare else []


def _held_out(run: Run) -> list[Absent]:
    bare = [stage for stage in run.stages if stage.result and not stage.held_out]
    possible = [stage for stage in bare if _has_pictures(stage)]
    command = f"python tools/report.py {quote(str(run.root))} --look"
    where, absent = _each(run, workdir.HELD_OUT), []
    if possible:
        absent.append(Absent(f"held-out pictures of {_names(possible)}", where, "", (command,)))
    if others := [stage for stage in bare if stage not in possible]:
        why = "the config has no evaluator of type zero_shot or retrieval"
        absent.append(Absent(f"held-out pictures of {_names(others)}", where, why))
    return absent


def _environments(run: Run) -> list[Absent]:
    bare = [stage for stage in run.stages if not stage.environment]
    why = "the trainer writes it at the end of a stage"
    where = _each(run, workdir.ENVIRONMENT)
    return [Absent(f"the environment of {_names(bare)}", where, why)] if bare else []


def _plans(run: Run) -> list[Absent]:
    if tables.plan(run) is not None:
        return []
    file = run.root / workdir.PLAN
    why = "none of the stages is in it" if run.plan else ""
    command = "python tools/plan.py --config=CONFIG.py --device=CHIP --chips=N"
    return [
        Absent("a plan to compare with", str(file), why, (f"{command} --json={quote(str(file))}",))
    ]


def _has_pictures(stage: Stage) -> bool:
    types = [section.get("type") for section in stage.evals.values()]
    return "zero_shot" in types or "retrieval" in types


def _names(stages: Sequence[Stage]) -> str:
    return ", ".join(stage.name for stage in stages)


def _each(run: Run, name: str) -> str:
    """The file of that name in each stage."""
    return f"{run.root}/STAGE/{name}"

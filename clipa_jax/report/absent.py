"""What a report could show and cannot, and the command that would make it."""

import shlex
from dataclasses import dataclass

from clipa_jax.report import held_out, results, runs, tables
from clipa_jax.report.runs import Run


@dataclass(frozen=True)
class Absent:
    """Something that is not there.

    Attributes:
      what: for example "intervals of the results of finetune_1".
      where: the file that would hold it.
      why: in a few words; "" where that is plain.
      command: that makes it; "" where nothing can, after the run.
    """

    what: str
    where: str
    why: str = ""
    command: str = ""


def of(run: Run) -> list[Absent]:
    """All that is absent of one run."""
    found = [Absent("a file that can be read", "", sentence) for sentence in run.damaged]
    root = shlex.quote(str(run.root))
    for stage in run.stages:
        if not stage.records:
            found.append(Absent(f"the curves of {stage.name}", str(stage.folder / "metrics.jsonl")))
        if not stage.result:
            why = "not finished: the numbers here are those so far"
            again = f"python -m clipa_jax.train --config=CONFIG.py --workdir={root}"
            found.append(Absent(f"the end of {stage.name}", "", why, again))
        elif not stage.evaluation and results.scores(stage):
            command = (
                "python -m clipa_jax.evaluate --config=CONFIG.py "
                f"--checkpoint={shlex.quote(str(stage.folder))} "
                f"--out={shlex.quote(str(stage.folder / runs.EVALUATION))}"
            )
            what = f"intervals of the results of {stage.name}"
            found.append(Absent(what, str(stage.folder / runs.EVALUATION), "", command))
        if not stage.environment:
            what = f"the environment of {stage.name}"
            why = "the trainer writes it at the end of a stage"
            found.append(Absent(what, str(stage.folder / runs.ENVIRONMENT), why))
    found += _not_looked_at(run)
    if tables.plan(run) is None:
        command = f"python tools/plan.py --config=CONFIG.py --device=CHIP --chips=N --json={root}"
        why = "none of the stages is in it" if run.plan else ""
        where = str(run.root / runs.PLAN)
        found.append(Absent("a plan to compare with", where, why, f"{command}/{runs.PLAN}"))
    return found


def _not_looked_at(run: Run) -> list[Absent]:
    last = run.stages[-1]
    if last.held_out:
        return []
    evaluators = last.config.get("evals", {}).values()
    why = ""
    if not any(one.get("type") in ("zero_shot", "retrieval") for one in evaluators):
        why = "its config has no evaluator of type zero_shot or retrieval to look through"
    return [
        Absent(
            f"held-out pictures of {last.name}",
            str(last.folder / held_out.TEXTS),
            why,
            "" if why else f"python tools/report.py {shlex.quote(str(run.root))} --look",
        )
    ]

"""Trains the demo's model at full length from the start, for the training time of the demo.

    python tools/demo_compare.py --workdir=runs/demo

Short trials measure a step of every stage and a step at full length on this machine, one after
the other; the number of steps at full length follows. Then both curves are drawn into the demo's
accuracy.png. `--record` saves the curve for users who only run the demo.
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import checkout  # noqa: F401 (finds clipa_jax beside this folder)
from absl import flags

from clipa_jax import runs
from clipa_jax.errors import UserError
from clipa_jax.report import curves, figures
from clipa_jax.runtime import cli, files
from clipa_jax.training import records, workdir

FULL_LENGTH = "full_length"
TRIAL_STEPS, WARMUP_STEPS = 60, 20  # the first steps are slower


@dataclass(frozen=True)
class Pace:
    """Seconds until the first step, and of each step."""

    start: float
    step: float

    def seconds(self, steps: int) -> float:
        return self.start + self.step * steps


def main(argv: list[str]) -> None:
    """Trains at full length and draws both curves."""
    del argv
    given = flags.FLAGS
    demo, out = Path(given.workdir), Path(given.out)
    plan = out / "steps.json"
    if not plan.exists():
        plan.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(plan, measure(demo_stages(demo), out))
    measured = files.read_json(plan)
    cli.say(
        f"the demo's stages take {measured['seconds']:.0f} s of training; at full length that is "
        f"{measured['steps']:,} steps"
    )
    train(FULL_LENGTH, out, measured["steps"])
    full = runs.read_one(out)
    own = curves.of_headline(full)
    compare = curves.Comparison(own)
    picture = figures.accuracy_against_time(runs.read_one(demo), demo / workdir.ACCURACY, compare)
    cli.say(f"wrote {picture}")
    if given.record:
        note = f"{given.note}, {date.today()}, {measured['steps']:,} steps".removeprefix(", ")
        curves.save(own, note, given.record)
        cli.say(f"wrote {given.record}")


def demo_stages(demo: Path) -> dict[str, int]:
    """Steps of the demo by stage; raises `UserError` if it is not finished."""
    if not (demo / workdir.SUMMARY).exists():
        raise UserError(f"no file {demo / workdir.SUMMARY}; run `make demo` first")
    return {stage.name: stage.samples // stage.batch_size for stage in runs.read_one(demo).stages}


def measure(stages: dict[str, int], out: Path) -> dict[str, float]:
    """Seconds of the stages, and the steps at full length that take as long."""
    seconds = 0.0
    for name, steps in stages.items():
        seconds += pace(name, out / "trial").seconds(steps)
    full = pace(FULL_LENGTH, out / "trial")
    return {"seconds": seconds, "steps": int((seconds - full.start) / full.step)}


def pace(stage: str, trial: Path) -> Pace:
    """The pace of a stage, measured in a short trial."""
    cli.say(f"measuring {stage}")
    shutil.rmtree(trial, ignore_errors=True)
    train(
        stage,
        trial,
        TRIAL_STEPS,
        "--config.init=scratch",
        "--config.eval_steps=0",
        "--config.log_steps=1",
        f"--config.checkpoint_steps={TRIAL_STEPS}",  # at its end alone
        silent=True,
    )
    trained = runs.read_one(trial).stages[0].records
    took = {record[records.STEP]: record[records.TRAIN_SECONDS] for record in trained}
    shutil.rmtree(trial)
    step = (took[TRIAL_STEPS] - took[WARMUP_STEPS]) / (TRIAL_STEPS - WARMUP_STEPS)
    return Pace(took[WARMUP_STEPS] - step * WARMUP_STEPS, step)


def train(stage: str, workdir: Path, steps: int, *overrides: str, silent: bool = False) -> None:
    """Trains one stage of the demo in a process of its own; raises `UserError` if that fails."""
    command = [sys.executable, "-m", "clipa_jax.train", f"--config=configs/demo/{stage}.py"]
    command += [f"--workdir={workdir}", f"--config.total_steps={steps}", *overrides]
    output = subprocess.DEVNULL if silent else None
    if subprocess.run(command, check=False, stderr=output).returncode:
        raise UserError(
            f"the training in {workdir} did not finish; run this command again to continue"
        )


def start() -> None:
    """Runs the command line."""
    flags.DEFINE_string("workdir", "runs/demo", "Workdir of the finished demo.")
    flags.DEFINE_string("out", "runs/demo-compare", "Workdir of the comparison.")
    flags.DEFINE_string("record", None, "Also save the curve to this JSON file.")
    flags.DEFINE_string("note", "", "What the recorded curve says of the machine.")
    cli.run(main, needs_config=False)


if __name__ == "__main__":
    start()

"""Trains the demo's model at full length from the start, for the training time of the demo.

    python tools/demo_compare.py --workdir=runs/demo

Short trials measure a step of every stage and a step at full length on this machine, one after
the other; the number of steps at full length follows. Then both curves are drawn into the demo's
accuracy.png. `--record` saves the curve for users who only run the demo.
"""

import subprocess
import sys
from datetime import date
from pathlib import Path

import checkout  # noqa: F401 (finds clipa_jax beside this folder)
from absl import flags

from clipa_jax import runs
from clipa_jax.config import recipes
from clipa_jax.errors import UserError
from clipa_jax.report import curves, figures
from clipa_jax.runtime import cli, files
from clipa_jax.training import derive, workdir

WORKDIR = flags.DEFINE_string("workdir", "runs/demo", "Workdir of the finished demo.")
OUT = flags.DEFINE_string("out", "runs/demo-compare", "Workdir of the comparison.")
RECORD = flags.DEFINE_string("record", None, "Also save the curve to this JSON file.")
NOTE = flags.DEFINE_string("note", "", "What the recorded curve says of the machine.")

FULL_LENGTH = "full_length"


def main(argv: list[str]) -> None:
    """Runs the comparison."""
    del argv
    compare(Path(WORKDIR.value), Path(OUT.value))


def compare(demo: Path, out: Path) -> None:
    """Trains at full length and draws both curves."""
    plan = out / "steps.json"
    if not plan.exists():
        plan.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(plan, measure(demo_stages(demo)))
    measured = files.read_json(plan)
    cli.say(
        f"the demo's stages take {measured['seconds']:.0f} s of training; at full length that is "
        f"{measured['steps']:,} steps"
    )
    train(out, measured["steps"])
    full = runs.read_one(out)
    picture = figures.accuracy_against_time(
        runs.read_one(demo), demo / workdir.ACCURACY, compare=full
    )
    cli.say(f"wrote {picture}")
    if RECORD.value:
        note = f"{NOTE.value}, {date.today()}, {measured['steps']:,} steps".removeprefix(", ")
        curves.save(figures.headline_curves(full), note, RECORD.value)
        cli.say(f"wrote {RECORD.value}")


def demo_stages(demo: Path) -> dict[str, int]:
    """Steps of the finished demo by stage."""
    if not (demo / workdir.SUMMARY).exists():
        raise UserError(f"no file {demo / workdir.SUMMARY}; run `make demo` first")
    return {stage.name: stage.samples // stage.batch_size for stage in runs.read_one(demo).stages}


def measure(stages: dict[str, int]) -> dict[str, float]:
    """Seconds of the stages, and the steps at full length that take as long."""
    configs = {name: recipes.load(f"demo/{name}") for name in (*stages, FULL_LENGTH)}
    cli.start_jax(configs[FULL_LENGTH])
    seconds = 0.0
    for name, steps in stages.items():
        start, step = derive.pace(configs[name])
        seconds += start + steps * step
    start, step = derive.pace(configs[FULL_LENGTH])
    return {"seconds": seconds, "steps": int((seconds - start) / step)}


def train(out: Path, steps: int) -> None:
    """Trains at full length in a process of its own; its log has the reason if that fails."""
    command = [sys.executable, "-m", "clipa_jax.train", f"--config=configs/demo/{FULL_LENGTH}.py"]
    command += [f"--workdir={out}", f"--config.total_steps={steps}"]
    if subprocess.run(command, check=False).returncode:
        raise UserError(f"the training in {out} did not finish; run this command again to continue")


if __name__ == "__main__":
    cli.run(main, needs_config=False)

"""Trains the demo's model at full length from the start, for as long as the demo took.

python tools/demo_compare.py --workdir=runs/demo

A short trial measures how long a step at full length takes on this machine; the number of
steps that fits into the demo's training seconds follows from it. Then both curves are
drawn into the demo's accuracy.png. `--record` keeps the curve for those who only run the demo.
"""

import json
import platform
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

from absl import app, flags

from clipa_jax import metrics, pictures
from clipa_jax.errors import UserError

WORKDIR = flags.DEFINE_string("workdir", "runs/demo", "Workdir of the finished demo.")
OUT = flags.DEFINE_string("out", "runs/demo-compare", "Workdir of the comparison.")
RECORD = flags.DEFINE_string("record", None, "Also save the curve to this JSON file.")

CONFIG, STAGE = "configs/demo/full_length.py", "full_length"
TRIAL_STEPS, SETTLED = 60, 20  # the first steps are slower


def main(argv: list[str]) -> int | None:
    del argv
    try:
        compare(Path(WORKDIR.value), Path(OUT.value))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return None


def compare(demo: Path, out: Path) -> None:
    """Runs the comparison and draws it beside the demo."""
    seconds = demo_seconds(demo)
    if not (out / "steps.json").exists():
        steps = steps_within(seconds, out)
        (out / "steps.json").write_text(json.dumps({"steps": steps, "seconds": seconds}))
    steps = json.loads((out / "steps.json").read_text())["steps"]
    print(f"the demo trained for {seconds:.0f} s; at full length that is {steps:,} steps")
    train(out, steps)
    picture = pictures.accuracy_against_time(demo, demo / "accuracy.png", compare=out)
    print(f"wrote {picture}")
    if RECORD.value:
        curve = pictures.read_curve(out)
        note = f"{date.today()}, {platform.machine()}, {steps:,} steps"
        pictures.save_curve(pictures.Curve(curve.segments, note), RECORD.value)
        print(f"wrote {RECORD.value}")


def demo_seconds(demo: Path) -> float:
    """Training seconds of the demo, all stages.

    Raises:
      UserError: the demo is not finished.
    """
    if not (demo / "summary.json").exists():
        raise UserError(f"{demo}/summary.json is not there; run `make demo` first")
    return sum(
        stage["seconds"] for stage in json.loads((demo / "summary.json").read_text())["stages"]
    )


def steps_within(seconds: float, out: Path) -> int:
    """How many steps at full length fit into `seconds`, compilation included."""
    print("measuring a step at full length")
    trial = out / "trial"
    shutil.rmtree(trial, ignore_errors=True)
    train(trial, TRIAL_STEPS, "--config.eval_steps=0", "--config.log_steps=1")
    records = metrics.read(trial / STAGE / metrics.RECORDS)
    took = {record["step"]: record[metrics.TRAIN_SECONDS] for record in records}
    pace = (took[TRIAL_STEPS] - took[SETTLED]) / (TRIAL_STEPS - SETTLED)
    start = took[SETTLED] - pace * SETTLED
    shutil.rmtree(trial)
    return int((seconds - start) / pace)


def train(workdir: Path, steps: int, *overrides: str) -> None:
    """Trains at full length in a process of its own.

    Raises:
      UserError: it failed; it has said why.
    """
    command = [sys.executable, "-m", "clipa_jax.train", f"--config={CONFIG}"]
    command += [f"--workdir={workdir}", f"--config.total_steps={steps}", *overrides]
    if subprocess.run(command, check=False).returncode:
        raise UserError(f"the training in {workdir} did not finish; run this again to go on")


if __name__ == "__main__":
    app.run(main)

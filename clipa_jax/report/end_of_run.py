"""What a run shows when it ends: pictures, the table, and the page with all of it.

A training that has finished does not fail for what it shows: what cannot be drawn is one line.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import logging

from clipa_jax.errors import DataError
from clipa_jax.report import figures, held_out, machine, page, qualitative, runs
from clipa_jax.runtime import distributed, files
from clipa_jax.runtime.interrupt import Stopped
from clipa_jax.training.stage import Stage

ACCURACY, HELD_OUT = "accuracy.png", "held_out.png"
SHEET = 15  # pictures on the sheet


def end_of_stage(run: Stage, state: Any) -> None:
    """Saves what the report shows beside metrics: the environment, and held-out pictures.

    Writes W/<stage>/environment.json; held_out.json, held_out.npz and held_out.png where the stage
    has an evaluator to look through. Not on several processes, where a picture's pixels stay on
    the process that read them.
    """
    if distributed.first():
        _attempt("environment", lambda: _save_environment(run), "")
    chosen = qualitative.chosen(run.evaluators)
    if chosen is None or jax.process_count() > 1:
        return
    again = f"; python tools/report.py {run.folder.parent} --look makes it"
    _attempt("held-out pictures", lambda: _look(run, state, *chosen), again)


def end(root: Path, summary: dict[str, Any], stages: Sequence[Stage]) -> None:
    """Draws W/accuracy.png and the page; logs the table of all stages and where everything is."""
    logging.info("\n%s\n", figures.stage_table(summary))
    if jax.process_index():
        return
    drawn = [stages[-1].folder / HELD_OUT]
    if any(stage["scores"] for stage in summary["stages"]):
        _attempt("accuracy curve", lambda: drawn.append(_accuracy(root, stages[-1])), "")
        again = f"; python tools/report.py {root} writes it"
        _attempt("report", lambda: drawn.append(_report(root)), again)
    for path in [root / "summary.json", *drawn]:
        if path.exists():
            logging.info("wrote %s", path)


def _attempt(what: str, make: Callable[[], object], again: str) -> None:
    """Makes something to look at; if that fails it is one line, not the end of the run."""
    try:
        make()
    except Stopped:
        logging.info("no %s, as the run was asked to stop%s", what, again)
    except DataError as error:
        logging.info("no %s: %s", what, error)
    except Exception as error:  # noqa: BLE001, the training itself is finished and saved
        logging.warning("no %s: %s: %s%s", what, type(error).__name__, error, again)


def _save_environment(run: Stage) -> None:
    files.write_json(run.folder / runs.ENVIRONMENT, machine.describe(run))


def _look(run: Stage, state: Any, name: str, evaluator: Any) -> None:
    held = qualitative.look(name, evaluator, state)
    held_out.save(held, run.folder)
    shown, out = held.shown[:SHEET], run.folder / HELD_OUT
    figures.top5_sheet(held.image_NSSC, shown, held.num_captions, out)


def _accuracy(root: Path, last: Stage) -> Path:
    compare = last.settings.logs.compare
    live = next((path for path in compare if (Path(path) / "summary.json").exists()), None)
    recorded = next((path for path in compare if path.endswith(".json")), None)
    return figures.accuracy_against_time(root, root / ACCURACY, compare=live, recorded=recorded)


def _report(root: Path) -> Path:
    page.write(runs.read([root]), root / page.NAME)
    return root / page.NAME

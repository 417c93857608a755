"""Output at the end of a run: figures, the table of stages, and the report.

A figure that cannot be drawn is logged and does not fail the finished run.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from absl import logging

from clipa_jax import runs
from clipa_jax.errors import DataError
from clipa_jax.evaluation import held_out
from clipa_jax.report import curves, figures, page, qualitative
from clipa_jax.runtime.files import Path
from clipa_jax.runtime.interrupt import Stopped
from clipa_jax.training import workdir
from clipa_jax.training.stage import Stage

SHEET = 15  # pictures on the sheet


def end_of_stage(run: Stage, state: Any) -> None:
    """Saves held-out pictures for the report.

    They (held_out.json, held_out.npz and held_out.png) need an evaluator of type zero_shot
    or retrieval, and a single process: a picture's pixels stay on the process that read them.
    """
    chosen = qualitative.choose(run.evaluators)
    if chosen is None or jax.process_count() > 1:
        return
    again = f"; python tools/report.py {run.folder.parent} --look makes it"
    _attempt("held-out pictures", lambda: _save_held_out(run, state, *chosen), again)


def end(root: Path, summary: dict[str, Any], stages: Sequence[Stage]) -> None:
    """Draws W/accuracy.png and the report; logs the table of stages and the files."""
    logging.info("\n%s\n", figures.stage_table(summary["stages"]))
    for stage in summary["stages"]:
        if missing := stage.get("not_evaluated"):
            logging.info("%s: not evaluated: missing: %s", stage["name"], ", ".join(missing))
    if jax.process_index():
        return
    written = [root / workdir.SUMMARY, stages[-1].folder / workdir.HELD_OUT_SHEET]
    if any(stage["scores"] for stage in summary["stages"]):
        _attempt("accuracy curve", lambda: written.append(_accuracy(root)), "")
        again = f"; python tools/report.py {root} writes it"
        _attempt("report", lambda: written.append(_report(root)), again)
    for path in written:
        if path.exists():
            logging.info("wrote %s", path)


def _attempt(what: str, make: Callable[[], object], again: str) -> None:
    """Calls a function that makes an output; a failure is logged and does not end the run."""
    try:
        make()
    except Stopped:
        logging.info("no %s, as the run was asked to stop%s", what, again)
    except DataError as error:
        logging.info("no %s: %s", what, error)
    except Exception as error:  # noqa: BLE001, the training itself is finished and saved
        logging.warning("no %s: %s: %s%s", what, type(error).__name__, error, again)


def _save_held_out(run: Stage, state: Any, name: str, evaluator: Any) -> None:
    held = qualitative.make(name, evaluator, state)
    held_out.save(held, run.folder)
    out = run.folder / workdir.HELD_OUT_SHEET
    figures.top5_sheet(held.image_NSSC, held.shown[:SHEET], held.num_captions, out)


def _accuracy(root: Path) -> Path:
    run = runs.read_one(root)
    return figures.accuracy_against_time(run, root / workdir.ACCURACY, curves.comparison(run))


def _report(root: Path) -> Path:
    page.write(runs.read([root]), root / workdir.REPORT)
    return root / workdir.REPORT

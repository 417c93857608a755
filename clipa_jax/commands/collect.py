"""Gathers every summary.json below a folder into a table, averages over seeds, and plots.

    python tools/collect.py runs/my_sweep
    python tools/collect.py runs/my_sweep --by=optim.lr_per_256 --x=optim.lr_per_256 --out=collected
    python tools/collect.py runs/inverse_scaling --law --out=collected

Keys are those of the last stage's config; `pretrain.input.res` is one of an earlier stage. By
default the table has a row for each combination of the keys that differ, and averages over the
seed alone: mean and standard error. Runs that differ in a key that is not named are refused, runs
about different data are kept apart and marked. With --out it writes runs.csv, every finished
stage with its costs, training FLOPs and scores; table.md; and plots of each metric against FLOPs
and --x. The CSV can be given in place of the folder.

--law compares each run of a grid like that of tools/sweeps/inverse_scaling.sh with the run at full
length of the same size and seed.
"""

from collections.abc import Sequence

import jax
from absl import flags, logging

from clipa_jax.errors import ConfigError, DataError
from clipa_jax.report import find_runs, law_plots, rows, scaling, sweep_plots, sweep_text
from clipa_jax.report.find_runs import Collected
from clipa_jax.report.groups import group, metrics_of, of_stage
from clipa_jax.report.rows import Row
from clipa_jax.runtime import cli, files, format
from clipa_jax.runtime.files import Path

FLAGS = flags.FLAGS


def main(argv: list[str]) -> int | None:
    """Tables and plots of all runs; status 1 if something could not be read."""
    places = [Path(place) for place in argv[1:]]
    if not places:
        raise ConfigError("name a folder with runs below it, or several, or a table of runs.csv")
    jax.config.update("jax_platforms", "cpu")  # the accelerator may be busy, and is not needed
    collected = find_runs.read(places)
    if not collected.rows:
        raise DataError("; ".join(collected.broken))
    chosen = of_stage(collected.rows, FLAGS.stage)
    metrics = metrics_of(chosen, FLAGS.metrics)
    out = Path(FLAGS.out) if FLAGS.out else None
    wrote = []
    if out:
        rows.save(collected.rows, out / "runs.csv")
        wrote.append(out / "runs.csv")
    if FLAGS.law:
        for metric in metrics:
            wrote += _law(chosen, metric, collected, out)
    else:
        wrote += _table(chosen, metrics, out)
    for sentence in collected.broken:
        logging.warning("%s", sentence)
    if collected.missing:
        logging.warning("%s: %s", _unfinished(collected), ", ".join(collected.missing))
    for file in wrote:
        logging.info("wrote %s", file)
    return 1 if collected.broken else None


def _table(chosen: Sequence[Row], metrics: Sequence[str], out: Path | None) -> list[Path]:
    """The table of all groups, and plots of each metric."""
    groups, notes = group(chosen, FLAGS.by, FLAGS.over, metrics)
    cells = sweep_text.cells(groups, metrics)
    right = range(len(groups[0].by), len(cells[0]))
    cli.say(format.table(cells, right))
    for note in notes:
        logging.warning("%s", note)
    if out is None:
        return []
    wrote = [out / "table.md"]
    page = [format.markdown(cells, right), *notes]
    files.write_text(wrote[0], "\n\n".join(page) + "\n")
    for metric in metrics:
        name = metric.replace("/", "_")
        if any(g.cost(sweep_plots.FLOPS) is not None and g.score(metric) for g in groups):
            plot = out / f"{name}_flops.png"
            wrote.append(sweep_plots.against(groups, sweep_plots.FLOPS, metric, plot))
        if FLAGS.x:
            plot = out / f"{name}.png"
            wrote.append(sweep_plots.against(groups, FLAGS.x, metric, plot, FLAGS.lines))
    return wrote


def _law(chosen: Sequence[Row], metric: str, collected: Collected, out: Path | None) -> list[Path]:
    """Tables, sentences and plots of the law for one metric."""
    law = scaling.read(chosen, metric)
    sides = [side for side in (scaling.IMAGE, scaling.TEXT) if law.of_side(side)]
    unit = "nats" if sweep_text.is_loss(metric) else "points"
    title = (
        f"{metric}: at full length, and the drop in {unit} with fewer tokens; mean ± standard "
        "error over seeds (what is left of the full length's)"
    )
    note = _unfinished(collected)
    ratio = law.signal_to_noise()
    page = [title, note] if note else [title]
    if ratio is not None:
        page.append(f"drops are {ratio:.1f} times as large as their scatter over seeds")
    cli.say("\n" + "\n".join(page))
    for side in sides:
        cells, sentences = scaling.cells(law, side), scaling.summary(law, side)
        right = range(1, len(cells[0]))
        table = format.table(cells, right)
        cli.say("\n".join(["", f"fewer {side} tokens", table, "", *sentences]))
        page += [f"Fewer {side} tokens:", format.markdown(cells, right), *sentences]
    if out is None:
        return []
    name = metric.replace("/", "_")
    wrote = [out / f"law_{name}.md"]
    files.write_text(wrote[0], "\n\n".join(page) + "\n")
    for side in sides:
        wrote.append(law_plots.drops(law, side, out / f"law_{name}_{side}.png", note))
    wrote.append(law_plots.against_flops(law, out / f"law_{name}_flops.png", note))
    return wrote


def _unfinished(collected: Collected) -> str:
    """The number of points of the sweep that are missing, as text; "" if none."""
    missing = len(collected.missing)
    if not missing:
        return ""
    total = missing + len({row.run for row in collected.rows})
    return f"{missing} of {total} points are not finished"


def start() -> None:
    """Runs the command line."""
    rows_by = "Config keys: a row of the table for each of their values. All that differ."
    flags.DEFINE_list("by", [], rows_by)
    flags.DEFINE_list("over", ["seed"], "Config keys that are averaged over.")
    flags.DEFINE_list("metrics", [], "Scores, by default zero-shot top-1 and top-5.")
    flags.DEFINE_string("stage", "", "Which stage; the last of each run by default.")
    flags.DEFINE_string("x", "", "Config key to draw the metrics against.")
    flags.DEFINE_list("lines", [], "Config keys that make a line; all others by default.")
    flags.DEFINE_boolean("law", False, "Look for the inverse scaling law.")
    flags.DEFINE_string("out", None, "Folder for tables and plots; else only the terminal.")
    cli.run(main, needs_config=False, positional=True)

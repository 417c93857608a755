"""Evaluates a checkpoint, or compares two: intervals, JSON, a table.

python -m clipa_jax.evaluate --config=configs/demo/finetune_2.py --checkpoint=runs/demo --out=here
python -m clipa_jax.evaluate --compare=here/evaluation.json,there/evaluation.json

The table goes to standard error, JSON to standard output unless that is a terminal, and with
--out both to files, beside them what was said of each sample. docs/evaluation.md has the rest.

Exit status: 0, all that was asked for is there; 3, some of it is not, and the JSON says what and
why; 1, nothing came of it.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags, logging
from ml_collections import ConfigDict

from clipa_jax import cli, distributed, evaluators, loading, workdir
from clipa_jax.data import pipeline
from clipa_jax.errors import CheckpointError, ConfigError, DataError, UserError, unknown
from clipa_jax.evaluators import embed
from clipa_jax.evidence import comparison, record, subject, tables
from clipa_jax.evidence.bars import Bars
from clipa_jax.settings import Settings

CONFIG = cli.define_config()
CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "A workdir, a stage's folder, a .npz of CLIPA or a folder of open_clip."
)
COMPARE = flags.DEFINE_list(
    "compare", [], "A,B: what B has more than A; each a checkpoint, or a .json written before."
)
ACROSS = flags.DEFINE_list(
    "across", [], f"What a comparison may be made across: {', '.join(comparison.ACROSS)}."
)
OUT = flags.DEFINE_string(
    "out", None, "Also write JSON, Markdown and samples: into this folder, or beside this .json."
)
INCOMPLETE = 3


def main(argv: list[str]) -> int | None:
    """Evaluates or compares, and says what came of it."""
    del argv
    _check_flags()
    if CHECKPOINT.value:
        made = _records([CHECKPOINT.value])[0]
        record.write(_file(record.NAME), made) if OUT.value else None
        return _say(made.report, record.NAME)
    a, b = _records(COMPARE.value)
    return _say(comparison.compare(a, b, ACROSS.value), comparison.NAME)


def _check_flags() -> None:
    if bool(CHECKPOINT.value) == bool(COMPARE.value):
        raise ConfigError("name one checkpoint with --checkpoint=PATH, or two with --compare=A,B")
    if COMPARE.value and len(COMPARE.value) != 2:
        raise ConfigError(f"--compare={','.join(COMPARE.value)}: expected two, A,B")
    for what in ACROSS.value:
        if what not in comparison.ACROSS:
            raise ConfigError(unknown("--across", what, comparison.ACROSS))
    if OUT.value and Path(OUT.value).suffix != ".json" and Path(OUT.value).is_file():
        raise ConfigError(f"--out={OUT.value} is a file; expected a folder, or a name with .json")


def _records(paths: list[str]) -> list[record.Record]:
    """The evaluation of each checkpoint, or what was written of it before."""
    files = {path: _result_file(path) for path in paths}
    configs = {}
    for path in (path for path in paths if files[path] is None):
        if CONFIG.value is None:
            raise ConfigError(f"{path} is to be evaluated: --config=FILE.py is needed")
        loading.check_exists(path)
        configs[path] = subject.stage_of(CONFIG.value, path)
    if configs:
        cli.start_jax(next(iter(configs.values())))
    made = []
    for label, path in zip("ab", paths, strict=False):
        file = files[path]
        made.append(record.read(file) if file else evaluate(path, configs[path]))
        if OUT.value and not file and len(paths) > 1:
            name = _file(comparison.NAME)
            record.write(name.with_name(f"{name.stem}_{label}.json"), made[-1])
    return made


def _result_file(path: str) -> Path | None:
    """The report that a path stands for: itself, or that of a folder without weights."""
    if Path(path).suffix == ".json":
        return Path(path)
    try:
        loading.check_exists(path)
    except CheckpointError:
        inside = Path(path) / record.NAME
        return inside if inside.is_file() else None
    return None


def evaluate(path: str, given: ConfigDict) -> record.Record:
    """Runs the evaluators of a config on a checkpoint; on several processes all call it.

    Args:
      path: of the checkpoint.
      given: from `subject.stage_of`.

    Raises:
      UserError: the checkpoint or the config cannot be used. Data that is missing is not an
        error: the record names it, and the other evaluators run.
    """
    one, bars = subject.load(path, given), Bars()
    for differs in one.differs:
        logging.warning("%s is %s here; %s was trained with %s", *_in_order(differs, path))
    evals = {name: dict(section) for name, section in given.evals.items()}
    errors: dict[str, DataError] = {}
    built = evaluators.build(Settings(given.evals, "config.evals"), _environment(one, bars), errors)
    _agree(built, errors)
    if not built and not errors:
        raise ConfigError("the config has no evaluators; name some in config.evals")
    evaluated = {}
    for name, evaluator in built.items():
        try:
            with bars.of(name, evaluator.about().num_examples):
                evaluated[name] = record.run(evaluator, evals[name], one.model)
        except DataError as error:
            if distributed.several():  # the others may be in the middle of it
                raise
            errors[name] = error
    missing = {name: record.absent(error, evals[name]) for name, error in errors.items()}
    return record.make(
        path,
        evaluated,
        params=one.model.params,
        mesh=one.mesh,
        missing=missing,
        differs=one.differs,
    )


def _environment(one: subject.Subject, bars: Bars) -> evaluators.Environment:
    model, inputs = one.model, one.model.config.input
    encoders = subject.of_one_size(model.encoders, model.res)
    return evaluators.Environment(
        encoders=embed.watched(encoders, bars.pictures, bars.texts),
        tokenize=model.tokenize,
        preprocess_image=pipeline.fill(inputs.preprocess_eval, inputs),
        temperature_max=model.config.model.temperature_max,
    )


def _agree(built: dict[str, Any], errors: dict[str, DataError]) -> None:
    """Leaves out what any process misses, so that all run the same evaluators."""
    for name in sorted({*built, *errors}):
        misses = distributed.from_all(int(name in errors))
        if any(misses) and name in built:
            del built[name]
            errors[name] = DataError(f"evaluator {name}: no data on process {misses.index(1)}")


def _in_order(differs: Mapping[str, Any], path: str) -> tuple[Any, ...]:
    return differs["key"], differs["config"], path, differs["checkpoint"]


def _file(name: str) -> Path:
    """Where --out has a file of this name."""
    out = Path(OUT.value)
    return out if out.suffix == ".json" else out / name


def _say(report: record.Report, name: str) -> int:
    """Shows and writes a report; the exit status."""
    incomplete = any(_gaps(report))
    if not distributed.first():
        return INCOMPLETE if incomplete else 0
    logging.info("\n%s\n", tables.text(report))
    if OUT.value:
        file = _file(name)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            workdir.write_json(file, report)
            file.with_suffix(".md").write_text(tables.markdown(report), encoding="utf-8")
        except OSError as error:
            raise UserError(f"{file} cannot be written: {error.strerror}") from None
        logging.info("wrote %s and %s", file, file.with_suffix(".md").name)
    elif sys.stdout.isatty():
        logging.info("--out=FOLDER keeps these numbers, and what a comparison needs")
    if not sys.stdout.isatty():
        sys.stdout.write(json.dumps(report, indent=1) + "\n")
    return INCOMPLETE if incomplete else 0


def _gaps(report: record.Report) -> list[Any]:
    """What was asked for and is not in a report."""
    parts = [report.get(label) or {} for label in ("a", "b")]
    return [report.get("missing"), report.get("refused"), *(p.get("missing") for p in parts)]


if __name__ == "__main__":
    cli.run(main, needs_config=False)

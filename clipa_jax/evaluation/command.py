"""What `clipa_jax.evaluate` does: evaluates checkpoints, compares them, says what came of it."""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from clipa_jax import evaluators
from clipa_jax.config.settings import Settings
from clipa_jax.errors import CheckpointError, ConfigError, DataError, UserError, unknown
from clipa_jax.evaluation import checkpoint, comparison, record, tables
from clipa_jax.evaluators import embed
from clipa_jax.runtime import cli, distributed, files
from clipa_jax.runtime.progress import Progress
from clipa_jax.training import workdir
from clipa_jax.weights import open_weights

DONE, INCOMPLETE = 0, 3  # exit statuses; 1 is that of an error


@dataclass(frozen=True)
class Command:
    """What was asked for.

    Attributes:
      config: of a stage, a schedule or an evaluation; None where nothing is to be evaluated.
      stage: the config that trained the weights, for files that carry none.
      out: where the results go: a folder, or a file that ends in .json; "" for nowhere.
    """

    config: ConfigDict | None
    stage: ConfigDict | None = None
    out: str = ""

    def evaluate(self, path: str) -> int:
        """Evaluates one checkpoint and returns the exit status.

        Raises:
          UserError: something that cannot be used.
        """
        self._check_out()
        [made] = self._records([path])
        if self.out:
            record.write(self._file(workdir.EVALUATION), made)
        return self._say(made.report, workdir.EVALUATION, [made.report["missing"]])

    def compare(self, paths: Sequence[str], across: Sequence[str] = ()) -> int:
        """Compares two and returns the exit status.

        Args:
          paths: A and B, each a checkpoint or a result of `evaluate`.
          across: of `comparison.ACROSS`, what may differ.

        Raises:
          UserError: something that cannot be used.
        """
        self._check_out()
        if len(paths) != 2:
            raise ConfigError(f"--compare={','.join(paths)}: expected two, A,B")
        for what in across:
            if what not in comparison.ACROSS:
                raise ConfigError(unknown("--across", what, comparison.ACROSS))
        a, b = self._records(paths)
        report = comparison.compare(a, b, across)
        gaps = [report["refused"], a.report["missing"], b.report["missing"]]
        return self._say(report, comparison.NAME, gaps)

    def _check_out(self) -> None:
        if self.out and Path(self.out).suffix != ".json" and Path(self.out).is_file():
            raise ConfigError(f"--out={self.out} is a file; expected a folder, or a name in .json")

    def _records(self, paths: Sequence[str]) -> list[record.Record]:
        """The evaluation of each checkpoint, or what was written of it before."""
        results = [_result_file(path) for path in paths]
        configs = [
            None if file else self._config_for(path)
            for path, file in zip(paths, results, strict=True)
        ]
        first = next(filter(None, configs), None)
        if first:
            cli.start_jax(first)
        made = []
        for label, path, file, config in zip("ab", paths, results, configs, strict=False):
            made.append(record.read(file) if file else run(path, config, self.stage))
            if self.out and not file and len(paths) > 1:
                name = self._file(comparison.NAME)
                record.write(name.with_name(f"{name.stem}_{label}.json"), made[-1])
        return made

    def _config_for(self, path: str) -> ConfigDict:
        if self.config is None:
            raise ConfigError(f"{path} is to be evaluated, so --config=FILE.py is needed")
        open_weights(path)
        return checkpoint.stage_of(self.config, path)

    def _file(self, name: str) -> Path:
        """Where `out` has a file of this name."""
        out = Path(self.out)
        return out if out.suffix == ".json" else out / name

    def _say(self, report: record.Report, name: str, gaps: Sequence[Any]) -> int:
        """Shows and writes a report; the exit status."""
        status = INCOMPLETE if any(gaps) else DONE
        if not distributed.first():
            return status
        logging.info("\n%s\n", tables.text(report))
        if self.out:
            _write(self._file(name), report)
        if not sys.stdout.isatty():
            sys.stdout.write(json.dumps(report, indent=1) + "\n")
        elif not self.out:
            logging.info("--out=FOLDER keeps these numbers, and what a comparison needs")
        return status


def _result_file(path: str) -> Path | None:
    """The report that a path stands for: itself, or that of a folder without weights."""
    if Path(path).suffix == ".json":
        return Path(path)
    try:
        open_weights(path)
    except CheckpointError:
        inside = Path(path) / workdir.EVALUATION
        return inside if inside.is_file() else None
    return None


def _write(file: Path, report: record.Report) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(file, report)
        files.write_text(file.with_suffix(".md"), tables.markdown(report))
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}") from None
    logging.info("wrote %s and %s", file, file.with_suffix(".md").name)


def run(path: str, given: ConfigDict, stage: ConfigDict | None = None) -> record.Record:
    """Runs the evaluators of a config on a checkpoint; on several processes all call it.

    Args:
      path: of the checkpoint.
      given: from `subject.stage_of`.
      stage: the config that trained the weights, where they carry none.

    Raises:
      UserError: the checkpoint or the config cannot be used. Data that is missing is not an
        error: the record names it, and the other evaluators run.
    """
    one, display = checkpoint.load(path, given, stage), _Display()
    for told in one.differs:
        logging.warning(
            "%s is %s here; %s was trained with %s",
            *(told["key"], told["config"], path, told["checkpoint"]),
        )
    options = {name: _options(section) for name, section in given.evals.items()}
    errors: dict[str, DataError] = {}
    config = Settings(given.evals, "config.evals")
    built = evaluators.build(config, _context(one, display), errors)
    _agree(built, errors)
    if not built and not errors:
        raise ConfigError("the config has no evaluators; name some in config.evals")
    evaluated = {}
    for name, evaluator in built.items():
        try:
            with display.of(name, evaluator.info().num_examples):
                evaluated[name] = record.run(evaluator, options[name], one.model)
        except DataError as error:
            if distributed.several():  # the others may be in the middle of it
                raise
            errors[name] = error
    missing = {name: record.absent(error, options[name]) for name, error in errors.items()}
    return record.make(
        path,
        evaluated,
        params=one.model.params,
        mesh=one.mesh,
        missing=missing,
        differs=one.differs,
    )


class _Display:
    """The progress of the evaluator that runs, advanced by each batch of embeddings."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._num_texts = 0

    @contextlib.contextmanager
    def of(self, name: str, num_images: int | None) -> Iterator[None]:
        """Shows the evaluator `name` while the block runs."""
        self._num_texts = 0
        shown = distributed.first()
        with Progress(name, num_images, unit="images", shown=shown) as self._progress:
            yield
        self._progress = None

    def add_images(self, z_BE: Any) -> None:
        """Counts a batch of image embeddings."""
        if self._progress is not None:
            self._progress.add(len(z_BE))

    def add_texts(self, z_BE: Any) -> None:
        """Counts a batch of text embeddings."""
        self._num_texts += len(z_BE)
        if self._progress is not None:
            self._progress.annotate(f"{self._num_texts:,} texts")


def _options(section: Any) -> Mapping[str, Any]:
    return section.to_dict() if isinstance(section, ConfigDict) else {}


def _context(one: checkpoint.Subject, display: _Display) -> evaluators.EvalContext:
    encoders = checkpoint.of_one_size(one.model.encoders, one.model.res)
    watched = embed.watched(encoders, display.add_images, display.add_texts)
    return evaluators.EvalContext.of_model(replace(one.model, encoders=watched))


def _agree(built: dict[str, Any], errors: dict[str, DataError]) -> None:
    """Leaves out what any process misses, so that all run the same evaluators."""
    for name in sorted({*built, *errors}):
        misses = distributed.from_all(int(name in errors))
        if any(misses) and name in built:
            del built[name]
            errors[name] = DataError(f"evaluator {name}: no data on process {misses.index(1)}")

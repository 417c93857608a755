"""The evaluate command: evaluates checkpoints, compares them, and publishes the results."""

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from clipa_jax import evaluators
from clipa_jax.config.settings import Settings
from clipa_jax.errors import ConfigError, DataError, unknown
from clipa_jax.evaluation import checkpoint, comparability, comparison, record, rendering
from clipa_jax.evaluators import embed
from clipa_jax.runtime import cli, distributed, files
from clipa_jax.runtime.files import Path
from clipa_jax.runtime.progress import Progress
from clipa_jax.training import workdir
from clipa_jax.weights import RESULT, Weights, open_weights

DONE, INCOMPLETE = 0, 3  # exit statuses; 1 is that of an error


@dataclass(frozen=True)
class Command:
    """The evaluate command under the config of a stage, a schedule or an evaluation.

    `stage` is the config that trained the weights, for files that carry none; `out` a folder for
    the results, or a file that ends in .json, "" for none; for `numerics` see `open_weights`.
    """

    config: ConfigDict | None
    stage: ConfigDict | None = None
    out: str = ""
    numerics: str = ""

    def evaluate(self, path: str) -> int:
        """Evaluates one checkpoint and returns the exit status."""
        self._check_out()
        [result] = self._records([path])
        if self.out:
            record.write(self._file(workdir.EVALUATION), result)
        return self._publish(result.report, workdir.EVALUATION, [result.report["missing"]])

    def compare(self, paths: Sequence[str], across: Sequence[str] = ()) -> int:
        """Compares two checkpoints or results of `evaluate`; returns the exit status.

        `across` names what may differ, of `comparability.ON_REQUEST`.
        """
        self._check_out()
        if len(paths) != 2:
            raise ConfigError(f"--compare={','.join(paths)}: expected two, A,B")
        for what in across:
            if what not in comparability.ON_REQUEST:
                raise ConfigError(unknown("--across", what, comparability.ON_REQUEST))
        a, b = self._records(paths)
        report = comparison.compare(a, b, across)
        gaps = [report["refused"], a.report["missing"], b.report["missing"]]
        return self._publish(report, comparison.NAME, gaps)

    def _check_out(self) -> None:
        if self.out and Path(self.out).suffix != ".json" and Path(self.out).is_file():
            raise ConfigError(f"--out={self.out} is a file; expected a folder, or a name in .json")

    def _records(self, paths: Sequence[str]) -> list[record.Record]:
        """The evaluation of each checkpoint, or its result of an earlier command."""
        opened = [open_weights(path, self.numerics) for path in paths]
        configs = {
            weights.path: checkpoint.stage_of(self.config, weights)
            for weights in opened
            if weights.kind != RESULT
        }
        if configs:
            cli.start_jax(next(iter(configs.values())))
        records = []
        for label, weights in zip("ab", opened, strict=False):
            if weights.path not in configs:
                records.append(record.read(weights.source))
                continue
            records.append(run(weights, configs[weights.path], self.stage))
            if self.out and len(paths) > 1:
                name = self._file(comparison.NAME)
                record.write(name.with_name(f"{name.stem}_{label}.json"), records[-1])
        return records

    def _file(self, name: str) -> Path:
        """The path of this file in `out`."""
        out = Path(self.out)
        return out if out.suffix == ".json" else out / name

    def _publish(self, report: record.Report, name: str, gaps: Sequence[Any]) -> int:
        """Logs, writes and prints a report; returns the exit status."""
        if distributed.first():
            logging.info("\n%s\n", rendering.text(report))
            if self.out:
                file = self._file(name)
                with record.writing(file):
                    files.write_json(file, report)
                    files.write_text(file.with_suffix(".md"), rendering.markdown(report))
                logging.info("wrote %s and %s", file, file.with_suffix(".md").name)
            if not sys.stdout.isatty():
                sys.stdout.write(json.dumps(report, indent=1) + "\n")
            elif not self.out:
                logging.info("--out=FOLDER keeps these numbers, and the samples for a comparison")
        return INCOMPLETE if any(gaps) else DONE


def run(weights: Weights, given: ConfigDict, stage: ConfigDict | None = None) -> record.Record:
    """Runs the evaluators of a config on a checkpoint; on several processes all call it.

    `given` is from `checkpoint.stage_of`; `stage` trained the weights, where they carry no config.
    Missing data is not an error: the record names it, and the other evaluators run.
    """
    loaded, display = checkpoint.load(weights, given, stage), _Display()
    for change in loaded.differs:
        logging.warning(
            "%s is %s here; %s was trained with %s",
            *(change["key"], change["config"], weights.path, change["checkpoint"]),
        )
    encoders = checkpoint.with_fixed_resolution(loaded.model.encoders, loaded.model.res)
    observed = embed.observed(encoders, display.add_images, display.add_texts)
    model = replace(loaded.model, encoders=observed)
    context = evaluators.EvalContext.of_model(model, given.get("root", ""))
    errors: dict[str, DataError] = {}
    required = given.get("evals_required", False)
    sections = Settings(given.evals, "config.evals")
    built = evaluators.build(sections, context, None if required else errors)
    if not built and not errors:
        raise ConfigError("the config has no evaluators; name some: --config.evals=imagenet1k")
    options = {name: given.evals[name].to_dict() for name in (*built, *errors)}
    evaluated = {}
    for name, evaluator in built.items():
        try:
            with display.of(name, evaluator.info().num_examples):
                evaluated[name] = record.run(evaluator, options[name], loaded.model)
        except DataError as error:
            if required or distributed.several():  # the others may be in the middle of it
                raise
            errors[name] = error
    return record.make(
        weights.path,
        evaluated,
        params=loaded.model.params,
        mesh=loaded.mesh,
        missing={name: record.absent(error, options[name]) for name, error in errors.items()},
        differs=loaded.differs,
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

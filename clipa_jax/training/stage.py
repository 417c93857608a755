"""Everything that training a stage needs, built from its config and checked before any work."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
from absl import logging
from ml_collections import ConfigDict

from clipa_jax import evaluators, models, sharding, trees
from clipa_jax.config.durations import Durations, due, resolve
from clipa_jax.config.settings import Settings, choice
from clipa_jax.data import pipeline
from clipa_jax.data.profile import WaitWarning
from clipa_jax.errors import CheckpointError, ConfigError, DataError, MissingData
from clipa_jax.evaluators import Evaluator, embed
from clipa_jax.models import surgery
from clipa_jax.preprocess.text import load_tokenizer, make_tokenize
from clipa_jax.preprocess.vocab import keep_copy, kept_copy, read_vocabulary
from clipa_jax.runtime import distributed, files
from clipa_jax.runtime.files import Path
from clipa_jax.runtime.progress import Progress
from clipa_jax.training import (
    checkpoint,
    headlines,
    metrics,
    origin,
    profiling,
    program,
    recorder,
    spikes,
    steps,
    workdir,
)
from clipa_jax.training.efficiency import Efficiency

MANY_EPOCHS = 1000  # above which a warning says that the stage is too long for its data


@dataclass(frozen=True)
class Stage:
    """The parts of one stage."""

    name: str
    config: ConfigDict  # as given, for the record
    settings: Settings
    folder: Path
    init: str  # path of the first weights, "" for none
    edits: tuple[str, ...]  # surgery that those weights may need
    data: pipeline.TrainData
    program: program.Program
    encoders: steps.Encoders
    evaluators: dict[str, Evaluator]
    at_end: frozenset[str]  # those that run at the end of the stage alone
    missing: dict[str, DataError]  # evaluators without data
    open_checkpoints: Callable[..., checkpoint.Checkpoints]
    logs: metrics.Logs
    max_rollbacks: int | None  # after spikes of the loss; None: they are only recorded
    profile_steps: tuple[int, ...]  # first and last to trace; () for none

    @property
    def durations(self) -> Durations:
        return self.program.durations

    def due(self, step: int) -> dict[str, Evaluator]:
        """The evaluators that run after a step: at the end all, else those of its interval."""
        if step == self.durations.total_steps:
            return self.evaluators
        if not due(step, self.durations.eval_steps):
            return {}
        return {name: e for name, e in self.evaluators.items() if name not in self.at_end}

    def evaluates(self, step: int) -> bool:
        """Whether an evaluation is due after a step; at the end also to record what is missing."""
        last = step == self.durations.total_steps
        return bool(self.due(step)) or (last and bool(self.missing))

    def claim(self) -> None:
        """Creates the stage's folder, or checks that it is of this experiment, see `workdir`."""
        workdir.claim(self.folder, self.config, self.is_same, self.data.fingerprint)
        if distributed.first():
            keep_copy(self.settings.input.vocab, self.folder)

    def is_same(self, key: str) -> bool:
        """Whether a key of the config means what it meant in the folder: data or a vocabulary."""
        if key == "input.vocab":
            copy, new = kept_copy(self.folder), load_tokenizer(self.settings.input.vocab)
            return bool(copy) and load_tokenizer(copy).vocabulary.same_pieces(new.vocabulary)
        recorded = self.folder / workdir.DATA
        if not key.startswith(("input.source", "input.split")) or not files.exists(recorded):
            return False
        return files.read_json(recorded)["fingerprint"] == self.data.fingerprint

    def recorder(
        self,
        position: checkpoint.Position,
        writer: metrics.Writer,
        progress: Progress,
        efficiency: Efficiency,
    ) -> recorder.Recorder:
        """Records the steps from the position of a checkpoint on, and watches for spikes."""
        watch = spikes.Spikes(
            self.folder,
            self.data.places,
            self.durations.batch_size,
            saved=position.get("losses", ()),
            samples=position.get("data", {}).get("samples", 0),
            max_rollbacks=self.max_rollbacks,
        )
        return recorder.Recorder(
            durations=self.durations,
            writer=writer,
            progress=progress,
            watch=watch,
            efficiency=efficiency,
            position=position,
            skipped=self.data.skipped,
            max_skips=self.program.max_skips,
            slow_input=WaitWarning(self.data),
        )

    def describe(self) -> str:
        """A line for the log: the model, its input, durations and devices."""
        durations, program, inputs = self.durations, self.program, self.settings.input
        return (
            f"stage {self.name}: {program.num_params / 1e6:,.1f}M parameters; "
            f"{durations.total_examples:,} samples in {durations.total_steps:,} steps of "
            f"{durations.batch_size:,}; {inputs.res} px ({program.image_tokens} image tokens), "
            f"{program.text_tokens} text tokens; peak learning rate {program.peak_lr:.3g}; "
            f"{program.mesh.size} {program.mesh.devices.flat[0].platform} devices"
        )

    def result(self, seconds: float, scores: Mapping[str, float]) -> dict[str, Any]:
        """The entry of the finished stage in the summary.

        `seconds` are those of training, with compilation, without evaluation; `scores` those of the
        last evaluation, by `<evaluator>/<metric>`.
        """
        evals = self.config.evals.to_dict()
        return {
            "name": self.name,
            "seconds": round(seconds, 1),
            "samples_seen": self.durations.total_examples,
            "image_tokens": self.program.image_tokens,
            "text_tokens": self.program.text_tokens,
            "num_params": self.program.num_params,
            "data": self.data.fingerprint,
            **{key: scores.get(name) for key, name in headlines.names(evals, scores).items()},
            "scores": dict(scores),
            "rollbacks": sum(bool(spike["left_out"]) for spike in spikes.read(self.folder)),
            "not_evaluated": {name: f"missing: {error}" for name, error in self.missing.items()},
        }


def prepare(
    config: ConfigDict,
    root: Path,
    before: Mapping[str, "Stage"],
    after_batch: Callable[[Any], None] = lambda embeddings: None,
    open_weights: Callable[[str], checkpoint.Weights | None] = lambda path: None,
) -> Stage:
    """Builds and checks a stage in the workdir `root`; uses no device memory, compiles nothing.

    `before` has the earlier stages of the run; `after_batch` is called with the embeddings of each
    batch of an evaluation, which may still be computing, and ends it by an exception;
    `open_weights` opens the weights of `config.init`. Raises `UserError` if these, the config, the
    data or the workdir cannot be used.
    """
    config = _as_begun(config, root / config.name)
    c = Settings(_with_vocabulary(config, root / config.name))
    surgery.check(c.surgery)
    mesh, count = c.mesh.call(sharding.make_mesh), jax.process_count()
    sharding.check_batch(c.input.batch_size, mesh, count)
    data = pipeline.train_data(
        c.input, seed=c.seed, process_index=jax.process_index(), process_count=count
    )
    config.input.lanes = config.input.lanes or data.lanes
    config.input.shuffle_window = config.input.shuffle_window or data.window
    durations = resolve(c, batch_size=c.input.batch_size, num_examples=data.num_examples)
    _warn_of_repeats(c.name, durations, data.num_examples)
    training = program.build(c, mesh, durations, data.spec)
    load_tokenizer(c.input.vocab).vocabulary.check_fits(training.model.txt.config.vocab_size)
    encoders = embed.observed(steps.make_encoders(training.model, mesh), after_batch, after_batch)
    built, missing = _evaluators(c, durations, training.model, encoders, before)
    stage = Stage(
        name=c.name,
        config=config,
        settings=c,
        folder=root / c.name,
        init=_init(c, root, before, open_weights),
        edits=tuple(c.surgery),
        data=data,
        program=training,
        encoders=encoders,
        evaluators=built,
        at_end=evaluators.at_end(c.evals),
        missing=missing,
        open_checkpoints=c.checkpoint.bind(checkpoint.Checkpoints, later=("workdir",)),
        logs=c.logs.call(metrics.Logs, skip=("compare",)),
        max_rollbacks=_max_rollbacks(c),
        profile_steps=profiling.check(c.profile_steps),
    )
    # `cli.start_jax` has used these of the first stage; the report reads the last.
    _ = c.cpu_devices, c.compilation_cache, c.distributed.bind(distributed.join), c.logs.compare
    c.check_all_read()
    workdir.check_same(stage.folder, config, stage.is_same)
    if c.after in before:
        _check_connects(before[c.after], stage)
    return stage


def _as_begun(config: ConfigDict, folder: Path) -> ConfigDict:
    """The config with the lanes and the window that the stage began with, where none are given."""
    config = config.copy_and_resolve_references()
    if files.exists(folder / workdir.CONFIG):
        recorded = workdir.read_config(folder / workdir.CONFIG)["input"]
        for key in ("lanes", "shuffle_window"):
            config.input[key] = config.input[key] or recorded[key]
    return config


def _max_rollbacks(c: Settings) -> int | None:
    number = c.max_rollbacks
    return number if c.on_spike is not None and choice(c, "on_spike", ["rollback"]) else None


def _with_vocabulary(config: ConfigDict, folder: Path) -> ConfigDict:
    """The config with the stage's own copy of the vocabulary, where the file it names is gone."""
    copy = kept_copy(folder)
    try:
        read_vocabulary(config.input.vocab)
    except DataError as error:
        if copy is None:
            raise
        logging.warning("%s; stage %s uses its copy %s", error, config.name, copy)
        config = config.copy_and_resolve_references()
        config.input.vocab = copy
    return config


def _warn_of_repeats(name: str, durations: Durations, num_examples: int | None) -> None:
    """Warns if the data is far too small for the stage."""
    if not num_examples:
        return
    if durations.batch_size > num_examples:
        logging.warning(
            "stage %s: a batch of %s holds copies of its samples, which count as negatives of each "
            "other: the data has %s; set input.batch_size to at most that",
            name,
            f"{durations.batch_size:,}",
            f"{num_examples:,}",
        )
    epochs = durations.total_examples / num_examples
    if epochs > MANY_EPOCHS:
        logging.warning(
            "stage %s passes %s times over the %s samples of the data; total_epochs sets its "
            "length in passes",
            name,
            f"{epochs:,.0f}",
            f"{num_examples:,}",
        )


def _evaluators(
    c: Settings,
    durations: Durations,
    model: models.CLIP,
    encoders: steps.Encoders,
    before: Mapping[str, Stage],
) -> tuple[dict[str, Evaluator], dict[str, DataError]]:
    """The evaluators of a stage, none if it never evaluates, and the errors of missing data.

    These are logged, unless an earlier stage misses the same.
    """
    context = evaluators.EvalContext(
        encoders=encoders,
        tokenize=make_tokenize(c.input),
        preprocess_image=pipeline.fill(c.input.preprocess_eval, c.input),
        temperature_max=model.temperature_max,
        root=c.root,
    )
    missing: dict[str, DataError] = {}
    required = c.evals_required
    if not durations.eval_steps:
        evaluators.configs(c.evals)  # checks the keys; the data may be missing
        return {}, missing
    built = evaluators.build(c.evals, context, None if required else missing)
    announced = {str(error) for stage in before.values() for error in stage.missing.values()}
    for error in missing.values():
        if not isinstance(error, MissingData):
            raise error
        if str(error) not in announced:
            logging.warning("not evaluated: missing: %s", error)
    return built, missing


def _init(
    c: Settings, root: Path, before: Mapping[str, Stage], open_weights: Callable[..., Any]
) -> str:
    """Path of the first weights; "" for none."""
    init, after = c.init, c.after
    if init == "scratch" or (not init and not after):
        return ""
    path, config = init or str(root / after), None
    if init:
        weights = open_weights(init)
        config = weights and weights.config
    elif after in before:
        config = before[after].config
    elif workdir.result(root / after) is not None:
        with contextlib.suppress(CheckpointError):  # a stage that resumes does not need them
            weights = open_weights(path)
            config = weights and weights.config
    else:
        raise ConfigError(
            f"stage {c.name} starts from the weights of stage {after}, but {root / after} is not "
            f"finished; train it first, or set --config.init= to its weights, or to scratch"
        )
    origin.check(path, config, c, tuple(c.surgery))
    return path


def _check_connects(previous: Stage, stage: Stage) -> None:
    """Raises `CheckpointError` if the weights of one stage will not fit the next."""
    target = trees.flatten(stage.program.spec.shapes.params)
    edits = [edit for edit in stage.edits if not edit.startswith("fresh:")]
    if len(edits) < len(stage.edits):
        return  # fresh parameters are known only when they are initialized
    jax.eval_shape(
        lambda leaves: surgery.apply(edits, leaves, target, dict)[0],
        dict(trees.flatten(previous.program.spec.shapes.params)),
    )

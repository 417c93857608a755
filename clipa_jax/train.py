"""Train CLIP in stages.

python -m clipa_jax.train --config=configs/demo/schedule.py --workdir=runs/demo
python -m clipa_jax.train --config=configs/model_h/pretrain.py --workdir=W --config.seed=1
"""

import contextlib
import functools
from collections.abc import Callable

from absl import flags, logging

from clipa_jax.config import schedules
from clipa_jax.config.durations import due
from clipa_jax.data import to_device
from clipa_jax.errors import CheckpointError, UserError
from clipa_jax.evaluation.record import of_stage
from clipa_jax.planning import capacity, workload
from clipa_jax.report import end_of_run, machine
from clipa_jax.runtime import cli, distributed
from clipa_jax.runtime.files import Path
from clipa_jax.runtime.interrupt import Interrupt
from clipa_jax.runtime.progress import Progress
from clipa_jax.training import (
    attention,
    checkpoint,
    derive,
    metrics,
    profiling,
    recorder,
    spikes,
    stage,
    steps,
    workdir,
)
from clipa_jax.training.state import TrainState
from clipa_jax.weights import open_weights


def main(argv: list[str]) -> int | None:
    """Trains every stage of the config that is not finished."""
    del argv
    workdir.check_address(flags.FLAGS.workdir)
    config, root = flags.FLAGS.config, Path(flags.FLAGS.workdir)
    cli.start_jax(schedules.split(config)[0], root / workdir.COMPILED)
    configs = [capacity.settle_here(c) for c in derive.resolve(config, open_weights, root)]
    interrupt = Interrupt()
    stages: dict[str, stage.Stage] = {}
    for config in configs:
        stages[config.name] = stage.prepare(
            config, root, stages, after_batch=interrupt.check, open_weights=open_weights
        )
    finished = {name for name, run in stages.items() if workdir.is_finished(run.folder)}
    for name, run in stages.items():
        if name not in finished:
            capacity.check(name, run.config, run.program)
    logging.info(metrics.parameter_overview(next(iter(stages.values())).program.spec.shapes.params))
    with interrupt:
        for name, run in stages.items():
            if name in finished:
                logging.info("stage %s is finished, nothing to do", name)
            elif interrupt.read() or not train(run, interrupt):
                logging.warning("stopped; run the same command again to resume")
                return 128 + (interrupt.shared or 0)
    end_of_run.end(root, workdir.write_summary(root, list(stages)), list(stages.values()))
    return None


def train(run: stage.Stage, interrupt: Interrupt) -> bool:
    """Trains a stage to its end; False if it was interrupted."""
    run.claim()
    machine.save(run)
    logging.info("\n%s", run.describe())
    compiled = functools.cache(run.program.compile)  # also of use after a rollback
    while True:
        try:
            return train_from_checkpoint(run, compiled, interrupt)
        except spikes.Rollback:
            if interrupt.shared:
                return False


def train_from_checkpoint(
    run: stage.Stage, compiled: Callable[[], steps.Update], interrupt: Interrupt
) -> bool:
    """`train` from the last checkpoint; raises `spikes.Rollback` if it is to be called again."""
    checkpoints = run.open_checkpoints(workdir=str(run.folder))
    start = checkpoint.first_state(
        checkpoints,
        run.program.spec,
        seed=run.settings.seed,
        init=run.init,
        edits=run.edits,
        open_weights=open_weights,
    )
    first, position = int(start.state.step), start.position
    efficiency = workload.efficiency(run.settings, run.program.mesh, position.get("efficiency"))
    for line in start.lines:
        logging.info("%s: %s", run.name, line)
    with (
        metrics.Writer(
            run.folder, run.logs, start_step=first, run_config=workdir.to_json(run.config)
        ) as writer,
        Progress(
            run.name,
            run.durations.total_steps,
            start=first,
            units_per_count=run.durations.batch_size,
            shown=distributed.first(),
        ) as progress,
    ):
        record = run.recorder(position, writer, progress, efficiency)
        with progress.paused("compiling"), efficiency.losing("compile"):
            program = run.program
            attention.compare(program.spec, program.mesh, start.state.params, program.image_tokens)
            update = compiled()
        try:
            state = loop(run, update, start, checkpoints, record, interrupt)
        except (UserError, spikes.Rollback):
            with contextlib.suppress(CheckpointError):
                checkpoints.close()  # completes earlier saves
            raise
    checkpoints.close()
    logging.info("%s: %s", run.name, efficiency)
    if interrupt.shared:
        return False
    workdir.finish(run.folder, run.result(record.seconds, record.scores))
    end_of_run.end_of_stage(run, state)
    return True


def loop(
    run: stage.Stage,
    update: steps.Update,
    start: checkpoint.Start,
    checkpoints: checkpoint.Checkpoints,
    record: recorder.Recorder,
    interrupt: Interrupt,
) -> TrainState:
    """Runs steps from `start` to the end of the stage or an interrupt; returns the last state."""
    state, durations = start.state, run.durations
    batches = run.data.start(start.position.get("data"), record.watch.left_out)
    evaluate = lambda: of_stage(run, state)  # noqa: E731, of the state at the time
    # An evaluation that was due when the run stopped is made when it resumes.
    owed = start.position.get("owed", False) and run.evaluates(int(state.step))
    if owed and not record.evaluate(int(state.step), evaluate):
        return state
    with (
        to_device.Prefetch(batches, run.encoders.batch_sharding) as feed,
        profiling.trace(run.profile_steps, run.folder) as trace,
    ):
        for step in range(int(state.step) + 1, durations.total_steps + 1):
            trace.begin(step)
            batch, position = next(feed)
            state, values = update(state, batch)
            trace.end(step, values)
            record.step(step, values, feed.wait_seconds, position["samples"])
            checkpoints.check()
            last, stop = step == durations.total_steps, interrupt.read(values) is not None
            owed = run.evaluates(step)
            if owed and not stop:
                owed = stop = not record.evaluate(step, evaluate)
            if last or stop or due(step, durations.checkpoint_steps):
                record.flush()  # a state whose metrics are not finite is never saved
                kept = {"data": position, "owed": owed, **record.saved(position["samples"])}
                with record.efficiency.losing("checkpoint"):
                    checkpoints.save(state, kept)
            if stop:
                break
    record.flush()
    return state


def start() -> None:
    """Runs the command line, whose flags are not defined for those who only import this module."""
    cli.define_config()
    flags.DEFINE_string(
        "workdir", None, "Folder of the run, also gs://BUCKET/FOLDER.", required=True
    )
    cli.run(main)


if __name__ == "__main__":
    start()

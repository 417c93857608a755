import contextlib
import math
import re

import jax.numpy as jnp
import pytest

from clipa_jax.config.durations import Durations
from clipa_jax.errors import UserError
from clipa_jax.runtime.interrupt import Stopped
from clipa_jax.training import recorder
from clipa_jax.training.efficiency import Efficiency
from clipa_jax.training.recorder import Recorder
from tests.helpers.clock import Clock

SKIP = re.compile(r"loss is (\w+) at step (\d+) .*; update skipped, (\d+) in a row")


class Writer:
    """Stores the records."""

    def __init__(self):
        self.written = []

    def write(self, step, values):
        self.written.append((step, dict(values)))

    def flush(self):
        pass


class Progress:
    """Stores updates and messages."""

    def __init__(self):
        self.updates, self.messages = [], []

    def update(self, step, loss):
        self.updates.append((step, loss))

    def message(self, text):
        self.messages.append(text)

    @contextlib.contextmanager
    def paused(self, what):
        assert what == "evaluating"
        yield


class Watch:
    """Finds no spikes."""

    def add(self, step, loss, samples):
        assert samples == 8 * step


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(recorder, "time", clock)
    return clock


def make(log_steps=1, total_steps=100, seconds=0.0, max_skips=0):
    durations = Durations(
        batch_size=8,
        total_steps=total_steps,
        warmup_steps=0,
        log_steps=log_steps,
        eval_steps=0,
        checkpoint_steps=0,
    )
    writer, progress = Writer(), Progress()
    record = Recorder(
        durations=durations,
        writer=writer,
        progress=progress,
        watch=Watch(),
        efficiency=Efficiency(),
        position={"seconds": seconds},
        max_skips=max_skips,
    )
    return record, writer, progress


def values(loss=2.0, grads=1.0, params=3.0):
    numbers = {"loss": loss, "l2_grads": grads, "l2_params": params}
    return {name: jnp.asarray(x) for name, x in numbers.items()}


def test_metrics_of_a_step_are_processed_when_the_next_starts(clock):
    record, writer, progress = make()
    record.step(1, values(loss=5.0), waited=0.0, samples=8)
    assert (writer.written, progress.updates) == ([], [])
    clock.now += 1
    record.step(2, values(loss=4.0), waited=0.0, samples=16)
    assert progress.updates == [(1, "loss 5.000")]
    assert [step for step, _ in writer.written] == [1]
    clock.now += 1
    record.flush()
    assert progress.updates == [(1, "loss 5.000"), (2, "loss 4.000")]
    record.flush()
    assert [step for step, _ in writer.written] == [1, 2]


def test_every_few_steps_and_the_last_are_written(clock):
    record, writer, progress = make(log_steps=3, total_steps=8)
    for step in range(1, 9):
        clock.now += 0.5
        record.step(step, values(), waited=0.0, samples=8 * step)
    record.flush()
    assert [step for step, _ in writer.written] == [3, 6, 8]
    assert len(progress.updates) == 8


def test_without_logging_only_the_last_is_written(clock):
    record, writer, _ = make(log_steps=0, total_steps=3)
    for step in range(1, 4):
        clock.now += 0.5
        record.step(step, values(), waited=0.0, samples=8 * step)
    record.flush()
    assert [step for step, _ in writer.written] == [3]


def test_speed_and_input_wait_are_measured_since_the_last_record(clock):
    record, writer, _ = make(log_steps=2)
    for step in range(1, 6):
        clock.now += 0.5
        record.step(step, values(loss=step), waited=0.1 * step, samples=8 * step)
    (step_2, first), (step_4, second) = writer.written
    assert (step_2, step_4) == (2, 4)
    # Step 2 is processed when step 3 starts, 1.5 s and 0.3 s of waiting after the beginning.
    assert "samples_per_second" not in first  # compilation is in it
    assert first["input_wait_share"] == pytest.approx(0.3 / 1.5)
    assert second["samples_per_second"] == pytest.approx(2 * 8 / 1.0)
    assert second["input_wait_share"] == pytest.approx(0.2 / 1.0)
    assert (second["samples"], second["loss"], second["train_seconds"]) == (32, 4.0, 2.5)


def test_input_wait_is_counted_when_every_record_is_flushed(clock):
    record, writer, _ = make(log_steps=1)
    for step in (1, 2):
        clock.now += 1.0
        record.step(step, values(), waited=0.25 * step, samples=8 * step)
        record.flush()  # as before each checkpoint
    assert [row["input_wait_share"] for _, row in writer.written] == pytest.approx([0.25, 0.25])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"loss": math.nan}, "loss is nan at step 7"),
        ({"grads": math.inf}, "l2_grads is inf at step 7"),
        ({"params": math.nan}, "l2_params is nan at step 7"),
    ],
)
def test_a_metric_that_is_not_finite_stops_the_run_and_names_the_step(clock, bad, message):
    record, writer, _ = make(log_steps=50)
    record.step(6, values(), waited=0.0, samples=48)
    clock.now += 1
    record.step(7, values(**bad), waited=0.0, samples=56)
    clock.now += 1
    with pytest.raises(UserError, match=rf"{message} \(samples 48 to 56 of the stage\)"):
        record.step(8, values(), waited=0.0, samples=64)
    assert [step for step, _ in writer.written] == [7]


def test_skipped_updates_are_counted_and_too_many_in_a_row_stop_the_run(clock, caplog):
    record, writer, _ = make(log_steps=50, max_skips=2)
    for step, loss in enumerate((1.0, math.nan, math.inf, 1.0, math.nan, math.nan, math.nan), 1):
        clock.now += 1
        record.step(step, values(loss=loss), waited=0.0, samples=8 * step)
    lines = [entry.getMessage() for entry in caplog.records]
    skips = [(word, step, row) for line in lines for word, step, row in SKIP.findall(line)]
    expected = [("nan", 2, 1), ("inf", 3, 2), ("nan", 5, 1), ("nan", 6, 2)]
    assert [(word, int(step), int(row)) for word, step, row in skips] == expected
    clock.now += 1
    with pytest.raises(
        UserError, match=r"nan at step 7 \(samples 48 to 56 .*\), after 2 skipped in a"
    ):
        record.flush()
    counted = [(step, row["skipped_updates"]) for step, row in writer.written]
    assert counted == [(2, 1), (3, 2), (5, 3), (6, 4), (7, 4)]


def test_parameters_that_are_not_finite_stop_the_run_even_with_max_skips(clock):
    record, _, _ = make(max_skips=5)
    record.step(1, values(grads=math.inf), waited=0.0, samples=8)
    clock.now += 1
    record.step(2, values(loss=math.nan, params=math.nan), waited=0.0, samples=16)
    clock.now += 1
    with pytest.raises(UserError, match="loss is nan at step 2"):
        record.flush()


def test_flushing_stops_at_a_loss_that_is_not_finite(clock):
    record, _, _ = make()
    record.step(3, values(loss=math.nan), waited=0.0, samples=24)
    clock.now += 1
    with pytest.raises(UserError, match="loss is nan at step 3"):
        record.flush()


def test_evaluation_does_not_count_as_training_time(clock):
    record, writer, progress = make(log_steps=1, seconds=100.0)

    def evaluate():
        clock.now += 60.0
        return {"zero_shot/top1": 0.5, "zero_shot/top5": 0.75, "retrieval/i2t_r1": 0.25}

    record.step(1, values(), waited=0.0, samples=8)
    clock.now += 2.0
    assert record.seconds == 102.0
    record.evaluate(1, evaluate)
    assert record.seconds == 102.0
    assert record.scores["zero_shot/top5"] == 0.75
    step, scores = writer.written[-1]
    assert (step, scores["train_seconds"]) == (1, 102.0)
    assert scores.items() >= record.scores.items()
    assert progress.messages == ["8 samples: zero_shot/top1 50.0 %  retrieval/i2t_r1 25.0 %"]

    clock.now += 4.0
    record.step(2, values(), waited=1.0, samples=16)
    record.flush()
    assert writer.written[-1][1]["samples_per_second"] == pytest.approx(8 / 4.0)
    assert writer.written[-1][1]["input_wait_share"] == pytest.approx(1.0 / 4.0)


def test_a_state_that_is_not_finite_is_not_evaluated(clock):
    record, _, _ = make()
    record.step(1, values(loss=math.nan), waited=0.0, samples=8)
    clock.now += 1
    with pytest.raises(UserError, match="loss is nan at step 1"):
        record.evaluate(1, lambda: pytest.fail("evaluated a broken state"))


def test_an_interrupted_evaluation_changes_no_scores(clock):
    record, writer, progress = make()

    def stopped():
        clock.now += 7
        raise Stopped

    record.scores = {"zero_shot/top1": 0.25}
    clock.now += 1
    assert not record.evaluate(5, stopped)
    assert record.scores == {"zero_shot/top1": 0.25}
    assert (writer.written, progress.messages) == ([], [])
    assert record.seconds == pytest.approx(1)

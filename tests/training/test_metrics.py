import json

import jax
import numpy as np
import pytest

from clipa_jax.errors import ConfigError, UserError
from clipa_jax.training import metrics
from tests.helpers.clock import Clock
from tests.helpers.tiny import logs

FILE = logs(tensorboard=False)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(metrics, "time", clock)
    return clock


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_each_write_is_flushed_as_one_line(tmp_path):
    writer = metrics.Writer(tmp_path, FILE)
    writer.write(1, {"loss": np.float32(2.5), "lr": jax.numpy.ones(())})
    first = records(tmp_path)
    assert first[0].pop("seconds") >= 0
    assert first == [{"step": 1, "loss": 2.5, "lr": 1.0}]
    writer.write(2, {"loss": float("nan")})
    assert records(tmp_path)[1]["loss"] is None
    writer.close()


def test_a_resumed_run_has_one_record_per_step_and_a_continued_clock(tmp_path, clock):
    with metrics.Writer(tmp_path, FILE) as writer:
        for step in (1, 2, 3, 4):
            clock.now += 10
            writer.write(step, {"loss": step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')  # killed while writing
    with metrics.Writer(tmp_path, FILE, start_step=2) as writer:
        clock.now += 1
        assert writer.seconds == 21
        writer.write(3, {"loss": 30.0})
    assert [(r["step"], r["loss"]) for r in records(tmp_path)] == [(1, 1), (2, 2), (3, 30)]
    with metrics.Writer(tmp_path, FILE) as writer:
        assert writer.seconds == 0
    assert records(tmp_path) == []


def test_tensorboard_events_have_the_same_values(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    with metrics.Writer(tmp_path, logs()) as writer:
        writer.write(3, {"loss": 1.5})
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()
    [event] = events.Tensors("loss")
    assert event.step == 3 and make_ndarray(event.tensor_proto) == 1.5


def test_only_process_0_writes_metrics(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics.distributed, "first", lambda: False)
    with metrics.Writer(tmp_path / "run", logs()) as writer:
        writer.write(1, {"loss": 1.0})
    assert not (tmp_path / "run").exists()


def test_a_missing_wandb_package_is_a_config_error(tmp_path, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(metrics.importlib, "import_module", missing)
    with pytest.raises(ConfigError, match="wandb_project='p' needs the package wandb"):
        metrics.Writer(tmp_path, logs(tensorboard=False, wandb_project="p"))
    with pytest.raises(ConfigError, match="wandb_mode='of'"):
        metrics.Writer(tmp_path, logs(tensorboard=False, wandb_project="p", wandb_mode="of"))


def test_wandb_gets_the_values_and_a_resumed_stage_the_same_run(tmp_path, monkeypatch):
    calls = []

    class Fake:
        def __getattr__(self, name):
            return lambda *args, **kwargs: (calls.append((name, args, kwargs)), self)[1]

    monkeypatch.setattr(metrics.importlib, "import_module", lambda name: Fake())
    for _ in range(2):
        with metrics.Writer(tmp_path, logs(tensorboard=False, wandb_project="p")) as writer:
            writer.write(4, {"loss": 0.5})
    inits = [kwargs for name, _, kwargs in calls if name == "init"]
    assert inits[0]["id"] == inits[1]["id"] and inits[0]["mode"] == "online"
    assert ("log", ({"loss": 0.5},), {"step": 4}) in calls


def test_a_workdir_that_is_a_file_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="workdir .*file cannot be written"):
        metrics.Writer(tmp_path / "file", FILE)


def test_parameter_overview_has_one_row_for_all_blocks_and_a_total():
    kernel = jax.ShapeDtypeStruct((4, 8), np.float32)
    params = {
        "img": {f"encoderblock_{i}": {"kernel": kernel} for i in range(12)},
        "t": jax.ShapeDtypeStruct((1,), np.float32),
    }
    lines = metrics.parameter_overview(params).splitlines()
    assert len(lines) == 5
    assert lines[2].split() == [
        "img/encoderblock_{0..11}/kernel",
        "12",
        "*",
        "4x8",
        "float32",
        "384",
    ]
    assert lines[-1].split() == ["total", "385"]

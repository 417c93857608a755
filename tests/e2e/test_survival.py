"""Runs that are interrupted in every way, against the same run left alone."""

import json
import signal
import time

import numpy as np
import pytest

from tests.helpers import processes, small_demo
from tests.helpers.small_demo import ONE_STAGE, SMALL, losses, records, run, start, wait, weights

LONGER = [*SMALL, *ONE_STAGE, "--config.all.total_steps=24", "--config.all.checkpoint_steps=4"]
# Evaluated every 8 steps; on one device, where compiled programs are kept.
EVALUATED = [*LONGER, "--config.all.eval_percent=33.4", "--config.all.cpu_devices=1"]
PROGRAMS = {"jit_update", "jit_image", "jit_text", "jit__items"}


def position(workdir, step):
    folder = workdir / "pretrain" / "checkpoints" / str(step)
    return json.loads((folder / "position" / "metadata").read_text())


def scores(workdir):
    """What was evaluated, by step."""
    found = {}
    for record in records(workdir):
        rest = {key: value for key, value in record.items() if key.endswith(("top1", "_r1"))}
        if rest:
            found[record["step"]] = rest
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A workdir of a run that nobody disturbed."""
    workdir = tmp_path_factory.mktemp("whole") / "W"
    done = run(workdir, *EVALUATED)
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.mark.slow
def test_whatever_ends_it_the_same_command_goes_on_to_the_same_weights(whole, tmp_path):
    """SIGTERM in an evaluation, kill -9 in a save, in a step and in an evaluation, then the end."""
    compiled = tmp_path / "cache" / "xla"

    first = start(tmp_path, *EVALUATED)
    wait(lambda: len(losses(tmp_path)) == 8, first)  # what comes before the evaluation of step 8
    began = time.monotonic()
    first.send_signal(signal.SIGTERM)
    said = first.communicate(timeout=120)[1]
    assert first.returncode == 128 + signal.SIGTERM, said
    assert time.monotonic() - began < 30
    assert "run the same command again to resume" in said
    assert position(tmp_path, 8)["owed"] and not scores(tmp_path)

    second = start(tmp_path, *EVALUATED)
    saves = tmp_path / "pretrain" / "checkpoints"
    wait(lambda: any("tmp" in f.name for f in saves.glob("12*")), second)
    second.kill()
    assert "resumes at step 8" in second.communicate()[1]
    assert not (saves / "12").exists()
    assert list(scores(tmp_path)) == [8]

    third = start(tmp_path, *EVALUATED)
    wait(lambda: len(losses(tmp_path)) == 8, third)  # later records are dropped, to be made again
    wait(lambda: len(losses(tmp_path)) >= 10, third)
    third.kill()
    assert "resumes at step 8" in third.communicate()[1]

    fourth = start(tmp_path, *EVALUATED)
    wait(lambda: len(losses(tmp_path)) == 16, fourth)
    fourth.kill()
    assert "resumes at step" in fourth.communicate()[1]
    assert list(scores(tmp_path)) == [8]
    before = set(compiled.iterdir())
    torn = max(before, key=lambda entry: entry.stat().st_size)  # as if killed in writing it
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])

    last = run(tmp_path, *EVALUATED)
    assert last.returncode == 0, last.stderr
    assert "resumes at step" in last.stderr and "rror" not in last.stderr
    assert sorted(f.name for f in saves.iterdir()) == ["20", "24"]
    assert losses(tmp_path) == losses(whole)
    assert weights(tmp_path) == weights(whole)
    assert scores(tmp_path) == scores(whole) and list(scores(whole)) == [8, 16, 24]
    # No program of the training and the evaluation was compiled anew. Small ones may be: how far
    # the starts before came depends on when they were killed.
    after = set(compiled.iterdir())
    assert before <= after
    assert {entry.name.split("-")[0] for entry in before} >= PROGRAMS
    assert not PROGRAMS & {entry.name.split("-")[0] for entry in after - before}


@pytest.fixture
def pairs():
    """Starts two processes; ends them with the test, whatever becomes of it."""
    started = []

    def start_pair(starter, arguments):
        started.extend(starter(2, arguments))
        return started[-2:]

    yield start_pair
    for process in started:
        process.kill()


@pytest.mark.slow
def test_two_processes_stop_go_on_and_end_together(whole, pairs, tmp_path):
    """Two with SIGTERM to one of them; one on another mesh; two of which one is killed."""
    four = [*LONGER, "--config.all.cpu_devices=4", "--config.all.distributed.peer_timeout=20"]

    two = pairs(
        processes.start,
        lambda index, port: small_demo.command(
            tmp_path,
            *four,
            "--config.all.sharding.preset=fsdp",
            f"--config.all.distributed.coordinator=localhost:{port}",
            f"--config.all.distributed.process={index}",
            "--config.all.distributed.processes=2",
        ),
    )
    wait(lambda: len(losses(tmp_path)) >= 2, *two)
    two[1].send_signal(signal.SIGTERM)
    said = [process.communicate(timeout=400)[1] for process in two]
    assert [process.returncode for process in two] == [128 + signal.SIGTERM] * 2, said
    stopped = len(losses(tmp_path))
    assert position(tmp_path, stopped)["data"]["samples"] == 16 * stopped

    one = start(tmp_path, *LONGER, "--config.all.cpu_devices=2")
    wait(lambda: len(losses(tmp_path)) >= stopped + 2, one)
    one.send_signal(signal.SIGTERM)
    assert f"resumes at step {stopped}" in one.communicate(timeout=400)[1]
    stopped = len(losses(tmp_path))

    split = ["--config.all.sharding.preset=fsdp_tp", "--config.all.mesh.tensor=2"]
    two = pairs(processes.start_in_slurm, small_demo.command(tmp_path, *four, *split))
    wait(lambda: len(losses(tmp_path)) >= stopped + 2, *two)
    two[1].kill()
    began = time.monotonic()
    said = two[0].communicate(timeout=400)[1]
    assert two[0].returncode not in (0, None)
    assert time.monotonic() - began < 20 + 20
    assert f"resumes at step {stopped}" in said
    assert "resume from the last checkpoint" in said or "another task died" in said
    two[1].communicate()

    reached = losses(tmp_path)
    assert stopped + 2 <= len(reached) < 24
    np.testing.assert_allclose(reached, losses(whole)[: len(reached)], rtol=1e-5)

"""The chain of H/14 on two processes, from a bucket to a bucket, killed in every stage."""

import json
import os
import signal
from http import HTTPStatus
from pathlib import Path

import fsspec
import pytest

from clipa_jax.data import export, sources
from clipa_jax.runtime import files
from tests.helpers import bucket as buckets
from tests.helpers import processes, small_demo

STAGES = ("pretrain", "finetune_224", "finetune_336")
# The keys of configs/model_h, except for width, depth, batch, lengths and the file of the data.
SHRUNK = {
    **{f"model.{tower}.width": 16 for tower in ("image", "text")},
    **{f"model.{tower}.depth": 2 for tower in ("image", "text")},
    **{f"model.{tower}.mlp_dim": 32 for tower in ("image", "text")},
    **{f"model.{tower}.num_heads": 2 for tower in ("image", "text")},
    "model.embed_dim": 8,
    "input.batch_size": 16,
    "total_steps": 6,
    "warmup_steps": 2,
    "checkpoint_steps": 2,
    "log_steps": 1,
    "cpu_devices": 1,
    "distributed.peer_timeout": 20,
}


@pytest.fixture(scope="module")
def bucket():
    """The bucket, with the training data in `data`."""
    with buckets.running() as server:
        yield server


@pytest.fixture(scope="module")
def tars(tmp_path_factory):
    """A folder with webdatasets of emoji."""
    folder = tmp_path_factory.mktemp("tars")
    source = sources.open("tfds:data/emoji/1.0.0", "heldout_pictures")
    export.write(source, folder, "train", kind="retrieval", shard_size=70)
    return folder / "train"


def train(workdir, data):
    """Starts two processes that train the chain, or go on with it."""
    keys = {**SHRUNK, "input.source": f"webdataset:{data}/{{0..3}}.tar"}

    def arguments(index, port):
        among = {"coordinator": f"localhost:{port}", "process": index, "processes": 2}
        values = keys | {f"distributed.{key}": value for key, value in among.items()}
        overrides = [f"--config.all.{key}={value}" for key, value in values.items()]
        return small_demo.command(workdir, *overrides, config="configs/model_h/schedule.py")

    return processes.start(2, arguments)


def finish(pair):
    """Waits for two processes; their status and what they said."""
    said = [process.communicate(timeout=900)[1] for process in pair]
    return [process.returncode for process in pair], said


def killed(bucket, pair, victims, moment):
    """Kills processes at the first write of an object whose path contains `moment`; what process 0
    said. TensorStore has the path in the address, gcsfs in the body."""
    reached = []

    def kill(method, path):
        if method != "POST" or moment not in path.replace("%2F", "/"):
            return None
        if not reached:
            reached.append(path)
            for process in victims:
                os.kill(process.pid, signal.SIGKILL)
        return HTTPStatus.SERVICE_UNAVAILABLE

    bucket.fails = kill
    status, said = finish(pair)
    bucket.fails = lambda method, path: None
    assert reached, said
    assert 0 not in status
    return said[0]


def position(workdir, stage):
    file = Path if "://" not in str(workdir) else files.Path
    folder = file(workdir) / stage / "checkpoints"
    newest = max(folder.iterdir(), key=lambda step: int(step.name))
    position = json.loads((newest / "position" / "metadata").read_text())
    return {key: position[key] for key in ("data", "fingerprints")}


@pytest.mark.slow
def test_the_chain_of_h14_killed_in_every_stage_ends_with_the_bits_of_an_undisturbed_run_on_disk(
    bucket, tars, tmp_path
):
    status, said = finish(train(tmp_path / "W", tars))
    assert status == [0, 0], said

    fsspec.filesystem("gcs").put(f"{tars}/", "bucket/data/", recursive=True)
    workdir = "gs://bucket/W"
    pair = train(workdir, "gs://bucket/data")
    killed(bucket, pair, pair, "W/pretrain/checkpoints/4")  # in a save

    pair = train(workdir, "gs://bucket/data")
    said = killed(bucket, pair, pair[1:], "W/finetune_224/checkpoints/4")  # one process alone
    assert "pretrain: resumes at step 2" in said

    pair = train(workdir, "gs://bucket/data")
    said = killed(bucket, pair, pair[:1], "W/finetune_336/checkpoints/6")  # its last save
    assert "finetune_224: resumes at step 2" in said

    status, said = finish(train(workdir, "gs://bucket/data"))
    assert status == [0, 0], said
    assert "stage finetune_224 is finished" in said[0]
    for stage in STAGES:
        whole, resumed = tmp_path / "W", files.Path(workdir)
        assert len(small_demo.losses(whole, stage)) == SHRUNK["total_steps"]
        assert small_demo.losses(resumed, stage) == small_demo.losses(whole, stage)
        assert small_demo.weights(resumed, stage) == small_demo.weights(whole, stage)
        assert position(workdir, stage) == position(tmp_path / "W", stage)

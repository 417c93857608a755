"""A workdir in a bucket, against an emulator of Google Cloud Storage."""

import json
import threading
import time
from http import HTTPStatus

import fsspec
import gcsfs.retry
import jax
import numpy as np
import pytest
from PIL import Image

import clipa_jax
from clipa_jax import embed, runs, trees
from clipa_jax.config import schema
from clipa_jax.convert import convert
from clipa_jax.data import embeddings
from clipa_jax.errors import CheckpointError, UserError
from clipa_jax.evaluation import record
from clipa_jax.evaluation.command import Command
from clipa_jax.report import find_runs, page
from clipa_jax.runtime.files import Path
from clipa_jax.training import checkpoint, metrics, workdir
from clipa_jax.training.mirror import Mirror
from tests.helpers import bucket as buckets
from tests.helpers import small_stage, tiny
from tests.helpers.checkpoints import assert_same, restore, save, spec, state, steps_in
from tests.helpers.sweep_runs import plant


@pytest.fixture(scope="module")
def server():
    with buckets.running() as server:
        yield server


@pytest.fixture
def bucket(server, request):
    """A folder of its own in the bucket, whose requests succeed again after the test."""
    yield Path(f"gs://bucket/{request.node.name}")
    server.fails = lambda method, path: None


@pytest.fixture
def impatient(monkeypatch):
    """Waits of gcsfs between two tries, which take no time."""
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    monkeypatch.setattr(gcsfs.retry, "asyncio", type("Quick", (), {"sleep": staticmethod(sleep)}))
    return waits


def test_states_come_back_bit_equal_from_a_bucket_and_the_newest_two_are_kept(bucket):
    saved = [state(spec(), step=step, seed=step) for step in (5, 10, 15)]
    save(bucket, *saved)
    assert steps_in(bucket) == [10, 15]
    start = restore(bucket, spec())
    assert_same(start.state, saved[2])
    assert start.lines == [f"resumes at step 15 from {bucket}/checkpoints"]
    weights = checkpoint.read_params(str(bucket), 10)
    np.testing.assert_array_equal(weights["t"], saved[1].params["t"])


def test_a_save_to_a_bucket_that_was_cut_off_is_no_checkpoint(bucket):
    saved = [state(spec(), step=step, seed=step) for step in (5, 10)]
    save(bucket, *saved)
    (bucket / "checkpoints" / "10" / "commit_success.txt").unlink()
    assert_same(restore(bucket, spec()).state, saved[0])
    save(bucket, saved[1])
    assert_same(restore(bucket, spec()).state, saved[1])


def test_a_damaged_object_falls_back_to_the_checkpoint_before(bucket, caplog):
    saved = [state(spec(), step=step, seed=step) for step in (5, 10)]
    save(bucket, *saved)
    folder = bucket / "checkpoints" / "10"
    for file in [*folder.glob("*/d/*"), *folder.glob("*/*/d/*")]:
        file.write_bytes(b"")
    assert_same(restore(bucket, spec()).state, saved[0])
    assert "the checkpoint of step 10" in caplog.text


def test_a_bucket_that_may_not_be_written_is_refused_before_any_work(server, bucket):
    server.fails = lambda method, path: HTTPStatus.FORBIDDEN if method == "POST" else None
    with pytest.raises(UserError, match=r"gs://bucket/.* cannot be written: Forbidden.*objectUser"):
        workdir.claim(bucket, small_stage.config())
    server.fails = lambda method, path: None
    with pytest.raises(UserError, match=r"gs://none/r cannot be written: there is no bucket none,"):
        workdir.claim(Path("gs://none/r"), small_stage.config())
    server.fails = lambda method, path: HTTPStatus.FORBIDDEN
    with pytest.raises(UserError, match=r"gs://bucket/.*/result.json cannot be read: Forbidden"):
        workdir.result(bucket)


def test_a_save_that_is_forbidden_keeps_the_checkpoints_before(server, bucket):
    saved = [state(spec(), step=step, seed=step) for step in (5, 10)]
    save(bucket, saved[0])
    server.fails = lambda method, path: HTTPStatus.FORBIDDEN if method != "GET" else None
    with pytest.raises(CheckpointError, match="step 10 cannot be written to gs://.*Forbidden"):
        save(bucket, saved[1])
    server.fails = lambda method, path: None
    assert_same(restore(bucket, spec()).state, saved[0])


def test_a_server_that_is_away_for_ten_seconds_is_waited_for(server, bucket):
    saved = state(spec(), step=5)
    server.stop()
    timer = threading.Timer(10, server.start)
    timer.start()
    save(bucket, saved)
    timer.join()
    assert_same(restore(bucket, spec()).state, saved)


def test_a_server_that_stays_away_is_an_error_and_nothing_is_lost(server, bucket, impatient):
    saved = [state(spec(), step=step, seed=step) for step in (5, 10)]
    save(bucket, saved[0])
    writer = metrics.Writer(bucket, tiny.logs(tensorboard=False))
    writer.write(5, {"loss": 1.0})
    writer.flush()
    checkpoints = checkpoint.Checkpoints(str(bucket))
    server.stop()
    try:
        with pytest.raises(CheckpointError, match="step 10 cannot be written to gs://"):
            checkpoints.save(saved[1], {})
        with pytest.raises(CheckpointError, match="gs://.* cannot be reached"):
            checkpoints.restore_last(spec())
        with pytest.raises(UserError, match="run the same command again to resume"):
            writer.write(6, {"loss": 1.0})
            writer.flush()
    finally:
        server.start()
    assert sum(impatient) > 0
    writer.close()
    assert_same(restore(bucket, spec()).state, saved[0])


def test_metrics_reach_a_bucket_and_go_on_after_a_resume(bucket):
    with metrics.Writer(bucket, tiny.logs()) as writer:
        writer.write(1, {"loss": 3.0})
        writer.flush()
        assert [record["step"] for record in metrics.records.read(bucket / "metrics.jsonl")] == [1]
        writer.write(2, {"loss": 2.0})
    with metrics.Writer(bucket, tiny.logs(), start_step=1) as writer:
        writer.write(2, {"loss": 2.5})
    lines = metrics.records.read(bucket / "metrics.jsonl")
    assert [(record["step"], record["loss"]) for record in lines] == [(1, 3.0), (2, 2.5)]
    assert sum("tfevents" in file.name for file in bucket.iterdir()) == 2


def test_a_mirror_copies_from_time_to_time_what_changed(server, bucket):
    mirror = Mirror(bucket, every_seconds=0.01)
    (mirror.folder / "a.txt").write_text("a")
    deadline = time.monotonic() + 60
    while not (bucket / "a.txt").exists():
        assert time.monotonic() < deadline
    before = len(server.requests)
    time.sleep(0.1)
    assert len(server.requests) - before <= 2
    mirror.close()
    assert not mirror.folder.exists()


def test_another_address_than_a_bucket_of_google_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"workdir s3://bucket/run must be a folder or gs://"):
        workdir.claim(Path("s3://bucket/run"), small_stage.config())
    assert list(tmp_path.iterdir()) == []


def test_compiled_programs_are_kept_in_a_bucket(bucket):
    cache = str(bucket / workdir.COMPILED)
    before = jax.config.jax_compilation_cache_dir
    from jax.experimental.compilation_cache import compilation_cache

    compilation_cache.reset_cache()
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    try:
        jax.jit(lambda x: x * 3 + 1)(np.ones(3))
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
        compilation_cache.reset_cache()
    assert list(Path(cache).iterdir())


def trained(bucket):
    """A workdir with a stage of known weights."""
    small_stage.stage(bucket, small_stage.config())
    return str(bucket)


def test_load_and_embed_read_a_workdir_in_a_bucket(bucket, tmp_path):
    workdir = trained(bucket)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in "ab":
        Image.effect_noise((20, 24), 50).save(pictures / f"{name}.png")
    model = clipa_jax.load(workdir)
    assert_same_leaves(model.params, tiny.init(small_stage.config())[1])
    job = {"out": str(tmp_path / "out"), "write": ["image"], "dtype": "float32", "batch_size": 8}
    embed.run(
        embed.Job(checkpoint=workdir, source=f"folder:{pictures}", **job), schema.evaluation()
    )
    expected = model.encode_image([pictures / "a.png", pictures / "b.png"])
    np.testing.assert_allclose(embeddings.read(job["out"], "img_emb"), expected, atol=1e-5)


def assert_same_leaves(got, expected):
    got, expected = trees.flatten(got), trees.flatten(expected)
    assert set(got) == set(expected)
    for name, leaf in expected.items():
        np.testing.assert_array_equal(np.asarray(got[name]), leaf, err_msg=name)


@pytest.mark.slow
def test_evaluate_and_convert_to_torch_read_a_workdir_in_a_bucket(bucket, tmp_path, capsys):
    path = trained(bucket)
    command = Command(small_stage.config(), out=f"{bucket}/evaluated")
    assert command.evaluate(path) == 0
    printed = json.loads(capsys.readouterr().out)
    assert sorted(printed["evaluations"]) == sorted(small_stage.EVALS)
    assert record.read(bucket / "evaluated" / workdir.EVALUATION).report == printed
    convert.to_torch(path, tmp_path / "torch", None)
    assert (tmp_path / "torch" / "parity.json").exists()


def test_report_and_collect_read_finished_runs_in_a_bucket(bucket, tmp_path, capsys):
    for seed in (0, 1):
        plant(tmp_path / "runs" / str(seed), 0.25 + seed / 4, seed=seed)
    fsspec.filesystem("gcs").put(f"{tmp_path}/runs/", f"{bucket}/", recursive=True)
    run = bucket / "0"
    page.write(runs.read([run]), run / workdir.REPORT)
    assert "25.0" in (run / workdir.REPORT).read_text()
    collected = find_runs.read([bucket])
    assert not collected.broken
    assert sorted(row.scores["zero_shot/top1"] for row in collected.rows) == [0.25, 0.5]

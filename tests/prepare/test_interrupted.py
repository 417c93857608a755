"""A run that was interrupted goes on, and gives the same files."""

import collections
import contextlib
import json
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from clipa_jax.errors import DataError
from clipa_jax.prepare import dataset, index, shards
from clipa_jax.runtime import storage
from tests.helpers.prepared import FILTERS, Died, digests, options, run


def test_a_killed_run_continues_and_gives_the_same_files(messy, made, tmp_path, monkeypatch):
    """Every run may finish three more files; what is finished is not made again."""
    out, finished = tmp_path / "dies", collections.Counter()
    allowed = 0
    whole = storage.whole

    @contextlib.contextmanager
    def counted(path):
        nonlocal allowed
        with whole(path) as part:
            yield part
            allowed -= 1
            if allowed < 0:
                raise Died
        finished[Path(path).name] += 1

    monkeypatch.setattr(storage, "whole", counted)
    deaths = 0
    while True:
        allowed = 3
        try:
            dataset.make(options(messy), str(out))
            break
        except (Died, DataError):
            assert not out.exists()
            deaths += 1
    assert deaths >= 5
    assert digests(out) == digests(made[0])
    made_again = {name for name, times in finished.items() if times > 1}
    records = {f"{number:06d}.records" for number in range(3)}
    assert made_again <= records | {"tally.json", "000.entries"}


KILLED = """
import contextlib, os, runpy, signal, sys
sys.path.insert(0, "tools")
from clipa_jax.runtime import storage
whole, left = storage.whole, 2

@contextlib.contextmanager
def counted(path):
    global left
    with whole(path) as part:
        yield part
        left -= "-of-" in os.path.basename(path)
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

storage.whole = counted
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_after_kill_9_of_the_command_the_next_run_gives_the_same_files(messy, made, tmp_path):
    """Killed when its second shard is written but has not got its name."""
    out = tmp_path / "killed"
    command = ["tools/prepare_data.py", f"--source={messy.source}", f"--out={out}"]
    command += [
        "--num_shards=4",
        "--holdout=0%",
        *(f"--{name}={value}" for name, value in FILTERS.items()),
    ]
    done = run(sys.executable, "-c", KILLED, *command)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not out.exists()
    unfinished = Path(f"{out}{dataset.UNFINISHED}") / "dataset"
    names = [file.name for file in unfinished.iterdir()]
    assert len(names) == 2 and sum(".part-" in name for name in names) == 1
    kept = next(unfinished.glob("*-of-00004"))
    before = kept.stat().st_mtime_ns
    summary = dataset.make(options(messy), str(out))
    assert summary["kept"] == len(messy.good)
    assert (out / kept.name).stat().st_mtime_ns == before
    assert digests(out) == digests(made[0])


def test_an_unfinished_folder_with_other_options_is_refused(messy, tmp_path):
    out = tmp_path / "other"
    folder = Path(f"{out}{dataset.UNFINISHED}")
    plan = {"options": options(messy, quality=50).as_dict()}
    folder.mkdir()
    (folder / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(DataError, match=r"other options: quality=92 \(was 50\); delete it"):
        dataset.make(options(messy), str(out))


def test_an_existing_dataset_is_not_overwritten(messy, made):
    with pytest.raises(DataError, match="a dataset exists"):
        dataset.make(options(messy), str(made[0]))


def test_a_run_killed_after_the_rename_only_cleans_up(messy, tmp_path, monkeypatch):
    out, publish = tmp_path / "late", dataset.publish

    def die():
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(dataset, "publish", lambda *args: (publish(*args), die())[0])
        with pytest.raises(Died):
            dataset.make(options(messy), str(out))
    before = digests(out)
    summary = dataset.make(options(messy), str(out))
    assert summary["kept"] == len(messy.good) and digests(out) == before
    assert not Path(f"{out}{dataset.UNFINISHED}").exists()


def test_where_folders_cannot_be_renamed_the_metadata_comes_last(monkeypatch):
    """A file system in memory stands for that of a cloud."""
    names = ["dataset_info.json", "a-train.tfrecord-00000-of-00001", "features.json"]
    for name in names:
        storage.write(f"memory://here/{name}", name.encode())
    moved, rename = [], storage.rename
    monkeypatch.setattr(storage, "rename", lambda old, new: (moved.append(new), rename(old, new)))
    dataset.publish("memory://here", "memory://there")
    assert moved[-1] == "memory://there/dataset_info.json"
    assert storage.names("memory://there") == sorted(names)


def test_a_damaged_shard_of_an_unfinished_run_is_found(messy, tmp_path):
    path = tmp_path / "x.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"something else")
    entry_X = np.zeros(1, index.ENTRY)
    with pytest.raises(DataError, match="differs from what was written"):
        shards.check(str(path), "tfrecord", entry_X)

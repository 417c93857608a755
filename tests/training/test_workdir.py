"""What lies in a workdir, and which runs may go on in it."""

import json
import os
import tarfile
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from clipa_jax.config import schema
from clipa_jax.errors import UserError
from clipa_jax.runtime import files
from clipa_jax.training import workdir

FIXTURES = Path(__file__).parents[1] / "fixtures" / "workdir_0_1_0"


def config(**changes):
    c = ConfigDict(
        {
            "name": "pretrain",
            "seed": 0,
            "init": "",
            "log_steps": 50,
            "eval_percent": 10.0,
            "checkpoint_percent": 5.0,
            "checkpoint": {"keep_last": 2},
            "mesh": {"fsdp": -1},
            "sharding": {"preset": "dp", "rules": ()},
            "cpu_devices": 2,
            "model": {
                "width": 16,
                "layers": "unrolled",
                "attention": "auto",
                "image": {"remat": "none", "pool": "gap"},
                "text": {"remat": "none"},
            },
            "input": {"batch_size": 8, "res": 16, "max_skip_percent": 1.0},
            "optim": {"b2": 0.95},
            "evals": {"zero_shot": {"split": "test"}},
        }
    )
    c.update_from_flattened_dict(changes)
    return c


def test_claiming_makes_the_folder_and_records_the_config(tmp_path):
    folder = tmp_path / "W" / "pretrain"
    workdir.claim(folder, config())
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "data.json"]
    recorded = json.loads((folder / "config.json").read_text())
    assert recorded["input"] == config().input.to_dict()
    assert recorded["sharding"]["rules"] == []


def test_the_same_experiment_may_go_on(tmp_path):
    workdir.claim(tmp_path, config())
    workdir.claim(tmp_path, config())


def test_another_experiment_is_refused_and_its_record_kept(tmp_path):
    workdir.claim(tmp_path, config())
    with pytest.raises(UserError, match="seed is 0 there and 1 here. Use another --workdir"):
        workdir.claim(tmp_path, config(seed=1))
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 0


def test_the_first_keys_that_differ_are_named(tmp_path):
    workdir.claim(tmp_path, config())
    other = config(
        **{"seed": 1, "input.res": 32, "input.batch_size": 4, "model.width": 8, "optim.b2": 0.5}
    )
    with pytest.raises(UserError) as caught:
        workdir.check_same(tmp_path, other)
    assert str(caught.value).startswith(
        f"workdir {tmp_path} holds another experiment: input.batch_size is 8 there and 4 here; "
        "input.res is 16 there and 32 here; model.width is 16 there and 8 here and 2 more."
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("log_steps", 1),
        ("eval_percent", 50.0),
        ("evals.zero_shot.split", "val"),
        ("checkpoint_percent", 50.0),
        ("checkpoint.keep_last", 5),
        ("mesh.fsdp", 2),
        ("sharding.preset", "fsdp"),
        ("cpu_devices", 1),
        ("init", "elsewhere.npz"),
        ("model.layers", "scanned"),
        ("model.attention", "xla"),
        ("model.image.remat", "full"),
        ("model.text.remat", "full"),
        ("input.max_skip_percent", 5.0),
    ],
)
def test_how_a_run_runs_may_change(tmp_path, key, value):
    workdir.claim(tmp_path, config())
    workdir.claim(tmp_path, config(**{key: value}))


@pytest.mark.parametrize("key", ["seed", "input.batch_size", "model.width", "model.image.pool"])
def test_what_it_computes_may_not(tmp_path, key):
    workdir.claim(tmp_path, config())
    with pytest.raises(UserError, match=key):
        workdir.claim(tmp_path, config(**{key: "max" if key.endswith("pool") else 99}))


def old_record():
    """A config that version 0.1.0 recorded."""
    with tarfile.open(FIXTURES / "finished.tar.xz") as archive:
        return json.load(archive.extractfile("finished/pretrain/config.json"))


DEFAULTS = workdir.leaves(workdir.to_json(schema.default()))
ADDED = sorted(DEFAULTS.keys() - workdir.leaves(old_record()).keys())


@pytest.mark.parametrize("key", ADDED)
def test_a_key_that_an_old_record_lacks_counts_as_the_default(tmp_path, key):
    files.write_json(tmp_path / "config.json", old_record())
    read = workdir.read_config(tmp_path / "config.json")
    assert workdir.leaves(read)[key] == DEFAULTS[key]
    new = ConfigDict(read)
    workdir.check_same(tmp_path, new)
    with new.unlocked(), new.ignore_type():
        new.update_from_flattened_dict({key: "other"})
    if key.startswith(workdir.MAY_CHANGE):
        workdir.check_same(tmp_path, new)
    else:
        with pytest.raises(UserError, match=f"{key} is .* there and 'other' here"):
            workdir.check_same(tmp_path, new)


def test_what_an_old_record_says_stays(tmp_path):
    files.write_json(tmp_path / "config.json", old_record())
    read = workdir.leaves(workdir.read_config(tmp_path / "config.json"))
    old = workdir.leaves(old_record())
    assert {key: read[key] for key in old} == old
    assert sorted(read.keys() - old.keys()) == ADDED


def test_checking_changes_nothing(tmp_path):
    workdir.check_same(tmp_path / "new", config())
    assert not (tmp_path / "new").exists()


def test_a_folder_of_its_own_is_not_shared(tmp_path, monkeypatch):
    monkeypatch.setattr(workdir.distributed, "from_first", lambda name: f"{name}-of-another")
    with pytest.raises(UserError, match="several processes need a --workdir that all of them sh"):
        workdir.claim(tmp_path, config())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("below", ["file", "file/pretrain", "file/a/b"])
def test_a_workdir_that_cannot_be_written(tmp_path, below):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=f"workdir {tmp_path / below} cannot be written: "):
        workdir.claim(tmp_path / below, config())


@pytest.mark.parametrize("address", ["s3://bucket/r", "gs://", "gs:///", "https://host/r"])
def test_a_workdir_at_an_address_that_cannot_hold_one(address):
    with pytest.raises(UserError, match=f"workdir {address} must be a folder or gs://BUCKET/FOLD"):
        workdir.check_address(address)
    workdir.check_address("gs://bucket")


def test_torn_json_names_its_file(tmp_path):
    (tmp_path / "config.json").write_text('{"seed": 0, "mod')
    with pytest.raises(UserError, match=r"config\.json is not JSON .*move it away"):
        workdir.check_same(tmp_path, config())
    (tmp_path / "result.json").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"result\.json is not JSON"):
        workdir.result(tmp_path)


def test_a_kill_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "result.json"
    files.write_json(file, {"a": 1})
    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr("os.replace", _killed)
        files.write_json(file, {"a": 2})
    assert files.read_json(file) == {"a": 1}
    files.write_json(file, {"a": 3})
    assert files.read_json(file) == {"a": 3}
    assert [f.name for f in tmp_path.iterdir()] == ["result.json"]


def _killed(*_):
    raise KeyboardInterrupt


def finished(root, name, age):
    """A finished stage whose result is `age` seconds old."""
    (root / name).mkdir(parents=True)
    workdir.finish(root / name, {"name": name})
    os.utime(root / name / "result.json", (10_000 - age, 10_000 - age))


def test_a_stage_has_a_result_once_it_is_finished(tmp_path):
    (tmp_path / "pretrain").mkdir()
    assert workdir.result(tmp_path / "pretrain") is None
    workdir.finish(tmp_path / "pretrain", {"seconds": 1.5})
    assert workdir.result(tmp_path / "pretrain") == {"seconds": 1.5}


def test_the_summary_has_the_order_of_the_schedule(tmp_path):
    for name, age in (("c", 30), ("a", 20), ("b", 10)):
        finished(tmp_path, name, age)
    (tmp_path / "d").mkdir()  # not finished
    summary = workdir.write_summary(tmp_path, ["a", "b", "c", "d"])
    assert [stage["name"] for stage in summary["stages"]] == ["a", "b", "c"]
    assert files.read_json(tmp_path / "summary.json") == summary


def test_stages_of_earlier_runs_come_first(tmp_path):
    for name, age in (("finetune", 10), ("z_old", 40), ("pretrain", 30), ("other", 20)):
        finished(tmp_path, name, age)
    assert workdir.stages_in(tmp_path) == ["z_old", "pretrain", "other", "finetune"]
    summary = workdir.write_summary(tmp_path, ["finetune", "pretrain"])
    names = [stage["name"] for stage in summary["stages"]]
    assert names == ["z_old", "other", "finetune", "pretrain"]

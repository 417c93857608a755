import json

import pytest

from clipa_jax import runs
from clipa_jax.report import absent, curves, tables
from tests.helpers import fake_runs


@pytest.fixture
def run(tmp_path):
    [run] = runs.read([fake_runs.run(tmp_path / "W")])
    return run


def column(table, name):
    return [row[table.header.index(name)] for row in table.rows]


def test_the_schedule(run):
    table = tables.schedule(run)
    assert column(table, "stage") == list(fake_runs.STAGES)
    assert column(table, "pixels") == ["16", "40", "48"]
    assert column(table, "text tokens") == ["8", "10", "12"]
    assert column(table, "samples") == ["25,600"] * 3
    assert column(table, "steps") == ["200"] * 3
    assert column(table, "peak rate") == ["1e-3", "7.5e-4", "1.5e-4"]
    assert column(table, "time") == ["1:00"] * 3


def test_shares_of_the_stages_add_up(run):
    bars = tables.bars(run)
    assert [bar.measure for bar in bars] == ["samples", "training time", "training FLOPs"]
    for bar in bars:
        assert sum(part["share"] for part in bar.parts) == pytest.approx(1)
    assert bars[0].total == "76.8 k" and bars[1].total == "3:00"
    shares = [part["share"] for part in bars[2].parts]
    assert shares == sorted(shares)  # more tokens, more arithmetic


def test_speed_and_what_was_skipped(run):
    table = tables.speed(run)
    assert column(table, "samples/s") == ["250"] * 3  # the median of 100 to 400
    assert column(table, "waiting for input") == ["2.5 %"] * 3
    assert column(table, "evaluation") == ["12.0 s"] * 3
    assert column(table, "skipped samples") == ["2"] * 3
    assert column(table, "skipped updates") == ["1"] * 3
    assert tables.skipped(run).rows == [("decode", "2", "2", "2")]


def test_what_a_stage_changed(run):
    [(before, after, table), _] = tables.changes(run)
    assert (before, after) == ("pretrain", "finetune_1")
    changed = {key: (old, new) for key, old, new in table.rows}
    assert changed["input.res"] == ("16", "40")
    assert changed["mask.ratio"] == ("0.0", "0.3")
    assert changed["optim.lr_per_256"] == ("0.002", "0.0015")
    assert changed["surgery"] == ("[]", '["image_positions", "text_positions_kept"]')
    assert "optim.b2" not in changed and "name" not in changed and "after" not in changed


def test_in_what_runs_differ(tmp_path):
    roots = [fake_runs.run(tmp_path / name) for name in ("a", "b")]
    file = roots[1] / "finetune_1" / "config.json"
    config = json.loads(file.read_text()) | {"seed": 7}
    file.write_text(json.dumps(config))
    tables_of = dict(tables.between_runs(runs.read(roots)))
    assert tables_of["finetune_1"].rows == [("seed", "0", "7")]
    assert tables_of["pretrain"].rows == []


def test_plan_against_what_happened(tmp_path):
    root = fake_runs.run(tmp_path / "W")
    planned = {"stage": "pretrain", "batch": 128, "step_seconds": 0.256, "chip_hours": 0.5}
    wrong = {"stage": "finetune_1", "batch": 256, "image_tokens": 9, "step_seconds": 1.0}
    content = {"title": "8 chips", "stages": [planned, wrong, {"stage": "unknown"}]}
    (root / "plan.json").write_text(json.dumps(content))
    [run] = runs.read([root])
    table = tables.plan(run)
    assert table.caption == "8 chips"
    assert column(table, "stage") == ["pretrain", "finetune_1"]
    assert column(table, "step, planned") == ["256.0 ms", "1,000.0 ms"]
    assert column(table, "step, actual") == ["512.0 ms"] * 2  # 128 samples at 250 a second
    assert column(table, "actual / planned") == ["2.00", "0.51"]
    assert column(table, "device-hours, actual") == ["0.0333"] * 2
    assert "planned for batch 256; planned for 9 image tokens" in table.rows[1][-1]
    assert not any("plan" in one.what for one in absent.of(run))


def test_one_environment_is_one_column_and_two_are_two(tmp_path):
    roots = [fake_runs.run(tmp_path / name) for name in ("a", "b")]
    one = tables.environment(runs.read(roots[:1]))
    assert one.header == ("", "pretrain, finetune_1, finetune_2")
    shown = dict(one.rows)
    assert (shown["jax"], shown["devices"], shown["memory"]) == ("0.10.2", "2", "8.0 GiB")
    assert shown["mesh"] == "replica 1, fsdp 2"
    other = fake_runs.ENVIRONMENT | {"processor": "Another"}
    (roots[1] / "pretrain" / "environment.json").write_text(json.dumps(other))
    both = tables.environment(runs.read(roots))
    assert len(both.header) == 3 and both.header[2] == "b: pretrain"


def test_the_environment_begins_with_command_commit_version_and_seed(tmp_path):
    root = fake_runs.run(tmp_path / "W")
    known = fake_runs.ENVIRONMENT | {"command": "python -m clipa_jax.train", "commit": "abc-dirty"}
    for stage in fake_runs.STAGES:
        (root / stage / "environment.json").write_text(json.dumps(known))
    rows = tables.environment(runs.read([root])).rows[:4]
    assert rows == [
        ("command", "python -m clipa_jax.train"),
        ("commit", "abc-dirty"),
        ("clipa_jax", "0.1.0"),
        ("seed", "0"),
    ]


def test_speed_shows_utilization_and_where_the_time_went(tmp_path):
    root = fake_runs.run(tmp_path / "W")
    [run] = runs.read([root])
    assert tables.goodput(run) is None  # as of older runs
    file = root / "pretrain" / "metrics.jsonl"
    values = {"goodput": 0.75, "lost/compile": 0.2, "lost/input": 0.05, "mfu": 0.41}
    values |= {"samples_per_second_per_chip": 512.3, "device_memory_bytes": 3 * 2**29}
    record = {"step": 200, "train_seconds": 60.0, **values}
    file.write_text(file.read_text() + json.dumps(record) + "\n")
    [run] = runs.read([root])
    goodput = tables.goodput(run)
    assert goodput.header == ("stage", "in steps", "compile", "input")
    assert goodput.rows == [("pretrain", "75.0 %", "20.0 %", "5.0 %")]
    speed = tables.speed(run)
    assert column(speed, "MFU") == ["41.0 %", "\N{EN DASH}", "\N{EN DASH}"]
    assert (column(speed, "per chip")[0], column(speed, "device memory")[0]) == ("512", "1.50 GiB")
    assert curves.metrics_of(run) == ["zero_shot/top1", "contrastive/loss"]


def test_what_is_absent_comes_with_its_command(tmp_path):
    root = fake_runs.run(tmp_path / "W")
    (root / "pretrain" / "environment.json").unlink()
    [run] = runs.read([root])
    found = {one.what: one for one in absent.of(run)}
    assert "the environment of pretrain" in found
    every = "pretrain, finetune_1, finetune_2"
    assert "--look" in found[f"held-out pictures of {every}"].commands[0]
    intervals = found[f"intervals of the results of {every}"].commands
    assert len(intervals) == 3 and intervals[2].startswith("python -m clipa_jax.evaluate ")
    assert f"--out={root}/finetune_2/evaluation.json" in intervals[2]
    assert f"--json={root}/plan.json" in found["a plan to compare with"].commands[0]

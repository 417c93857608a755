import json
import subprocess
import sys
from pathlib import Path

import pytest

from clipa_jax import runs
from clipa_jax.errors import DataError
from clipa_jax.training import workdir
from tests.helpers import fake_runs
from tests.helpers.sweep_runs import plant

ROOT = Path(__file__).parents[1]


def test_stages_come_in_the_order_of_training(tmp_path):
    fake_runs.run(tmp_path / "W")
    [run] = runs.read([tmp_path / "W"])
    assert [stage.name for stage in run.stages] == list(fake_runs.STAGES)
    (tmp_path / "W" / "summary.json").unlink()  # then `after` says it
    [run] = runs.read([tmp_path / "W"])
    assert [stage.name for stage in run.stages] == ["pretrain", "finetune_1", "finetune_2"]
    assert run.finished and run.damaged == ()


def test_numbers_of_a_stage(tmp_path):
    fake_runs.run(tmp_path / "W")
    [run] = runs.read([tmp_path / "W"])
    stage = run.stages[1]
    assert (stage.samples, stage.seconds) == (200 * 128, 60.0)
    assert stage.wall_seconds == pytest.approx(72.0)
    assert stage.skipped == {"decode": 2}
    assert stage.peak_lr == pytest.approx(1.5e-3 / 2)
    assert (stage.sizes.image_tokens, stage.sizes.text_tokens) == (18, 10)
    assert stage.flops == pytest.approx(stage.sizes.forward.training * 200 * 128)


def test_a_stage_that_is_still_training(tmp_path):
    folder = fake_runs.stage(tmp_path / "W", "pretrain", 0.2)
    (folder / "result.json").unlink()
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text("\n".join(lines[:2]) + '\n{"step": 1')
    [run] = runs.read([tmp_path / "W"])
    assert not run.finished
    assert (run.stages[0].samples, run.stages[0].seconds) == (100 * 128, 30.0)
    assert run.stages[0].scores == {}


def test_the_last_scores_of_a_stage_that_is_still_training(tmp_path):
    folder = fake_runs.stage(tmp_path / "W", "pretrain", 0.2)
    (folder / "result.json").unlink()
    [run] = runs.read([tmp_path / "W"])
    assert run.stages[0].scores["zero_shot"]["top1"].value == 0.2


def test_what_cannot_be_read_is_said_and_the_rest_is_there(tmp_path):
    fake_runs.run(tmp_path / "W", looked=fake_runs.held())
    (tmp_path / "W" / "pretrain" / "evaluation.json").write_text("{")
    (tmp_path / "W" / "pretrain" / workdir.HELD_OUT_PICTURES).write_bytes(b"not a zip file")
    (tmp_path / "W" / "plan.json").write_text(json.dumps({"stages": 3}))
    config = json.loads((tmp_path / "W" / "finetune_1" / "config.json").read_text())
    config["model"]["size"] = "unheard-of/16"
    (tmp_path / "W" / "finetune_1" / "config.json").write_text(json.dumps(config))
    [run] = runs.read([tmp_path / "W"])
    first, second, third = run.stages
    assert first.evaluation is None and first.held_out is None and first.scores
    assert second.sizes is None and second.flops is None
    assert third.held_out is not None and third.flops > 0
    assert run.plan is None
    said = " ".join(run.damaged)
    for word in ("evaluation.json", "held_out.npz", "plan.json", "unheard-of"):
        assert word in said


def test_a_folder_without_stages_is_an_error(tmp_path):
    with pytest.raises(DataError, match="holds no stage"):
        runs.read([tmp_path])


def test_labels_are_short_and_tell_runs_apart(tmp_path):
    roots = [tmp_path / "a" / "demo", tmp_path / "b" / "demo", tmp_path / "b" / "other"]
    for root in roots:
        fake_runs.stage(root, "pretrain", 0.1)
    assert [run.label for run in runs.read(roots[1:])] == ["demo", "other"]
    assert [run.label for run in runs.read(roots)] == ["a/demo", "b/demo", "b/other"]
    twice = [run.label for run in runs.read(roots[:1] * 2)]
    assert len(set(twice)) == 2


@pytest.mark.parametrize(
    "text", ['{"stages": [{"na', "[]", "{}", '{"stages": []}', '{"stages": [{}]}']
)
def test_a_summary_of_another_form_is_named(tmp_path, text):
    plant(tmp_path, 0.25)
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(DataError, match="summary.json"):
        runs.summary(tmp_path)


@pytest.mark.parametrize("tool", ["collect", "report"])
def test_results_are_read_without_tensorflow(tmp_path, tool):
    fake_runs.run(tmp_path / "W", looked=fake_runs.held())
    arguments = [f"{tool}.py", str(tmp_path / "W"), f"--out={tmp_path / 'out'}"]
    script = (
        "import runpy, sys; sys.path.insert(0, 'tools'); sys.modules['tensorflow'] = None; "
        f"sys.argv = {arguments}; runpy.run_path('tools/{tool}.py', run_name='__main__')"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").exists()

"""The command on every kind of checkpoint, with data missing, on one process and on two."""

import json
import shutil
from pathlib import Path

import pytest

from clipa_jax.errors import CheckpointError, ConfigError, UserError
from clipa_jax.evaluation import command, record
from clipa_jax.evaluation.command import Command
from clipa_jax.training import workdir
from clipa_jax.weights import npz, open_clip_folder, open_weights
from tests.helpers import processes, small_stage


def scores(report):
    return {
        f"{name}/{metric}": told["value"]
        for name, entry in report["evaluations"].items()
        for metric, told in entry["metrics"].items()
    }


@pytest.fixture(scope="module")
def alone(root):
    """The record of the small stage, evaluated here on eight devices."""
    return command.run(open_weights(str(root)), small_stage.config())


def export_to_open_clip(path, root):
    """The same weights as open_clip has them, written without PyTorch."""
    config, model, leaves = open_weights(str(root)).build()
    path.mkdir()
    open_clip_folder.write(path, model, leaves, config.input, "unknown")
    shutil.copy(small_stage.VOCAB, path / open_clip_folder.VOCABULARY)
    return path


def test_scores_are_plausible_and_have_intervals(alone):
    entry = alone.report["evaluations"]["zero_shot"]
    top1 = entry["metrics"]["top1"]
    assert top1["low"] <= top1["value"] <= top1["high"] and top1["low"] < top1["high"]
    assert entry["count"] == entry["examples"] == top1["count"] == 280
    assert entry["prompts_fingerprint"] and entry["seconds"] >= 0
    assert alone.report["evaluations"]["retrieval"]["prompts_fingerprint"] is None
    assert alone.report["missing"] == {} and alone.report["differs"] == []


def test_a_folder_of_open_clip_gives_the_same_scores(alone, root, tmp_path):
    path = export_to_open_clip(tmp_path / "folder", root)
    config = small_stage.evaluation(small_stage.EVALS)
    config.input.clean = "none"  # by default texts are cleaned for a folder of open_clip
    found = command.run(open_weights(str(path)), config).report
    assert scores(found) == pytest.approx(scores(alone.report), abs=1e-6)
    assert [entry["key"] for entry in found["differs"]] == ["input.clean"]


@pytest.mark.slow
def test_two_processes_of_the_command_line_agree_with_one(alone, root, tmp_path):
    def arguments(index, port):
        # The folder of `gone` is there for process 0 alone, as on a disk that is not shared.
        there = small_stage.HELD_OUT["source"] if index == 0 else "tfds:/no/such"
        options = {
            "cpu_devices": 4,
            "mesh.tensor": 2,
            "sharding.preset": "fsdp_tp",
            "distributed.coordinator": f"localhost:{port}",
            "distributed.processes": 2,
            "distributed.process": index,
            "evals.gone.source": there,
            "evals.gone.split": small_stage.HELD_OUT["split"],
        }
        config = Path(__file__).with_name("small_evaluation.py")
        paths = [f"--config={config}", f"--checkpoint={root}", f"--out={tmp_path}"]
        overrides = [f"--config.{key}={value}" for key, value in options.items()]
        return ["-m", "clipa_jax.evaluate", *paths, *overrides]

    started = processes.start(2, arguments)
    errors = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [3, 3], errors
    found = record.read(tmp_path / workdir.EVALUATION)
    assert found.report["environment"]["processes"] == 2
    assert found.report["environment"]["mesh"] == {"replica": 1, "fsdp": 4, "tensor": 2}
    assert scores(found.report) == pytest.approx(scores(alone.report), abs=1e-6)
    for name, metrics in alone.outcomes.items():
        for metric, one in metrics.items():
            assert found.outcomes[name][metric].ids.tolist() == one.ids.tolist()
    # What one of the two cannot see, neither evaluates.
    assert list(found.report["missing"]) == ["gone"]
    assert found.report["missing"]["gone"]["error"].endswith("no data on process 1")
    # The first one speaks, and nothing else does.
    assert "95 % interval" in errors[0] and "wrote" in errors[0]
    assert errors[1] == ""
    for noise in ("Warning", "WARNING", "orbax", "Traceback", "E0000", "I0000"):
        assert noise not in errors[0]
    files = sorted(file.name for file in tmp_path.iterdir())
    assert files == [f"evaluation.{kind}" for kind in ("json", "md", "npz")]


def test_with_data_missing_the_others_run_and_the_status_says_so(root, tmp_path, capsys):
    late = {"type": "contrastive", "caption": 7, **small_stage.HELD_OUT}
    sized = {**small_stage.EVALS["zero_shot"], "preprocess": "decode|resize(24)"}
    evals = {"gone": small_stage.NOT_THERE, "late": late, "sized": sized, **small_stage.EVALS}
    stage = root / "small"  # a stage's folder is a checkpoint too
    status = Command(small_stage.evaluation(evals), out=str(tmp_path)).evaluate(str(stage))
    assert status == command.INCOMPLETE == 3
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((tmp_path / "evaluation.json").read_text())
    assert list(report["evaluations"]) == ["retrieval", "zero_shot"]
    gone = report["missing"]["gone"]
    assert gone["dataset"] == "tfds:/no/such"
    assert gone["looked"] == "/no/such/dataset_info.json"
    assert "evaluator gone" in gone["error"]
    assert "caption=7, but a picture has" in report["missing"]["late"]["error"]
    assert "24 x 24 pixels, but the checkpoint takes 16 x 16" in report["missing"]["sized"]["error"]
    assert "gone: not evaluated: missing: " in (tmp_path / "evaluation.md").read_text()


def test_a_result_and_an_archive_are_compared(alone, root, tmp_path, capsys):
    """The same weights: what was written of a stage, against its .npz evaluated anew."""
    record.write(tmp_path / "a.json", alone)
    npz.write(tmp_path / "weights.npz", open_weights(str(root)).read())
    both = [str(tmp_path / "a.json"), str(tmp_path / "weights.npz")]
    evaluate = Command(
        small_stage.evaluation(small_stage.EVALS), small_stage.config(), str(tmp_path / "out.json")
    )
    assert evaluate.compare(both) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((tmp_path / "out.json").read_text())
    assert found["a"]["weights"] == found["b"]["weights"]
    b = record.read(tmp_path / "out_b.json")
    assert scores(b.report) == pytest.approx(scores(alone.report), abs=1e-6)
    assert b.report["differs"] == []
    top1 = found["evaluations"]["zero_shot"]["metrics"]["top1"]
    assert top1["count"] == 280 and top1["low"] <= top1["difference"] == 0 <= top1["high"]
    # Two results need neither a config nor weights.
    results = [both[0], str(tmp_path / "out_b.json")]
    assert Command(None, out=str(tmp_path / "again")).compare(results) == 0
    again = json.loads((tmp_path / "again" / "comparison.json").read_text())
    assert again["evaluations"] == found["evaluations"]


def test_results_of_other_data_are_refused(alone, tmp_path, capsys):
    record.write(tmp_path / "a.json", alone)
    entry = alone.report["evaluations"]["zero_shot"]
    other = {**alone.report["evaluations"], "zero_shot": {**entry, "data_fingerprint": "0"}}
    record.write(
        tmp_path / "b.json", record.Record(alone.report | {"evaluations": other}, alone.outcomes)
    )
    assert Command(None).compare([str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 3
    found = json.loads(capsys.readouterr().out)
    assert list(found["evaluations"]) == ["retrieval"]
    assert [reason["what"] for reason in found["refused"]["zero_shot"]] == ["data"]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda c, root: c.compare([root]), "expected two, A,B"),
        (lambda c, root: c.compare([root, root], ["data"]), "unknown --across 'data'"),
        (lambda c, root: Command(None).evaluate(root), "needs --config=FILE.py"),
        (lambda c, root: c.evaluate("no/such"), "no such file or folder: no/such"),
        (lambda c, root: Command(c.config, out="Makefile").evaluate(root), "is a file"),
        (lambda c, root: Command(small_stage.evaluation({})).evaluate(root), "has no evaluators"),
    ],
)
def test_bad_input_is_a_sentence(root, call, sentence):
    with pytest.raises(UserError, match=sentence):
        call(Command(small_stage.config()), str(root))


def test_a_misspelt_evaluator_stops_everything(root):
    evals = {**small_stage.EVALS, "zero_shot": {**small_stage.EVALS["zero_shot"], "lable": "group"}}
    with pytest.raises(ConfigError, match="nearest: label"):
        command.run(open_weights(str(root)), small_stage.evaluation(evals))


def test_a_folder_stands_for_its_results_unless_it_has_weights(alone, tmp_path):
    record.write(tmp_path / workdir.EVALUATION, alone)
    opened = open_weights(str(tmp_path))
    assert (opened.kind, opened.source) == ("result", tmp_path / workdir.EVALUATION)
    with pytest.raises(CheckpointError, match="holds the result of an evaluation, and no weights"):
        opened.read()
    workdir.finish(tmp_path, {})
    (tmp_path / "checkpoints").mkdir()
    assert open_weights(str(tmp_path)).kind == "stage"

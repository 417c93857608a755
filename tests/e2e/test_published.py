"""A published stage, shrunk, on folders that look like ImageNet: trained, evaluated, reported."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipa_jax import evaluators, train
from clipa_jax.config import eval_overrides, recipes
from clipa_jax.config.settings import Settings
from clipa_jax.errors import MissingData
from clipa_jax.evaluation import command
from clipa_jax.evaluators import class_names
from clipa_jax.report import end_of_run
from clipa_jax.runtime.interrupt import Interrupt
from clipa_jax.training import stage, workdir
from clipa_jax.weights import open_weights
from tests.helpers import golden

MISSING = ["flickr30k", "imagenet_r", "imagenet_sketch", "objectnet"]
PUBLISHED = [name for name in golden.stages() if name.startswith("model_")]


@pytest.mark.parametrize("name", PUBLISHED)
def test_evaluators_of_every_published_stage_take_their_keys(name):
    config = golden.get_config(*golden.stages()[name])
    sections = Settings(config.evals)
    assert len(evaluators.configs(sections)) == 9
    assert len(evaluators.at_end(sections)) == 8
    assert sections.unread() == []


def picture(file, seed):
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 20, 3), np.uint8)
    Image.fromarray(pixels).save(file)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """ImageNet-1k, V2 and A with two classes each, and COCO with two pictures."""
    root = tmp_path_factory.mktemp("data")
    table = class_names.asset("imagenet")
    folders = {
        "imagenet/val": table["wordnet_ids"][:2],
        "imagenetv2-matched-frequency-format-val": ("0", "999"),
        "imagenet-a": table["subsets"]["imagenet_a"][:2],
    }
    for folder, classes in folders.items():
        for seed in range(4):
            picture(root / folder / classes[seed % 2] / f"{seed}.png", seed)
    for seed in range(2):
        picture(root / "coco" / "images" / f"{seed}.png", seed)
    images = [
        {
            "filename": f"{seed}.png",
            "split": "test",
            "sentences": [{"raw": f"picture {seed}, caption {n}"} for n in range(5)],
        }
        for seed in range(2)
    ]
    (root / "coco" / "dataset_coco.json").write_text(json.dumps({"images": images}))
    return root


def shrunk(data, **overrides):
    """H/14's stage at 336 px with its own keys, in little: of few pixels, layers and prompts."""
    c = recipes.load("model_h/finetune_336")
    c.init, c.root = "scratch", str(data)
    c.distributed.coordinator = "none"
    c.model.size, c.model.embed_dim = "S/4", 8
    for tower in (c.model.image, c.model.text):
        tower.update(width=16, depth=1, mlp_dim=32, num_heads=2)
    c.input.update(source="tfds:data/emoji/1.0.0", split="heldout_pictures", batch_size=16, res=16)
    c.total_examples, c.warmup_examples = 16 * 2, 16
    c.eval_percent = 50.0
    c.logs.tensorboard = False
    names = [name for name in c.evals if c.evals[name].type == "zero_shot"]
    eval_overrides.apply(c, [f"--config.evals.{name}.templates={{}}" for name in names])
    c.update(overrides)
    return c


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """The workdir of the stage, trained to its end, and its log."""
    root = tmp_path_factory.mktemp("published") / "W"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(golden.ROOT)
        run = stage.prepare(shrunk(data), root, {}, open_weights=open_weights)
        assert train.train(run, Interrupt())
        end_of_run.end(root, workdir.write_summary(root, [run.name]), [run])
    return root


def test_the_suite_is_evaluated_at_the_end_and_imagenet_alone_before(finished):
    records = [json.loads(line) for line in (finished / "finetune_336/metrics.jsonl").open()]
    by_step = {
        r["step"]: {name.partition("/")[0] for name in r if "/top1" in name} for r in records
    }
    quick = [step for step, names in by_step.items() if names == {"imagenet1k_7"}]
    assert quick == [1]
    report = json.loads((finished / "finetune_336" / workdir.EVALUATION).read_text())
    assert sorted(report["evaluations"]) == sorted(
        ["imagenet1k", "imagenet1k_7", "imagenet_a", "imagenetv2", "mscoco_captions"]
    )
    assert report["evaluations"]["imagenet1k"]["preprocess"] == "decode|resize(16)"
    assert report["evaluations"]["mscoco_captions"]["metrics"]["t2i_r1"]["count"] == 10
    assert sorted(report["missing"]) == MISSING
    assert "imagenet_sketch" in report["missing"]["imagenet_sketch"]["looked"]
    assert report["missing"]["imagenet_sketch"]["command"].startswith("clip_benchmark_export_wds")


def test_summary_figure_and_report_show_what_was_and_was_not_evaluated(finished):
    [entry] = json.loads((finished / workdir.SUMMARY).read_text())["stages"]
    assert entry["zero_shot_top1"] == entry["scores"]["imagenet1k/top1"] is not None
    assert entry["retrieval_i2t_r1"] == entry["scores"]["mscoco_captions/i2t_r1"]
    assert sorted(entry["not_evaluated"]) == MISSING
    assert entry["not_evaluated"]["objectnet"].startswith("missing: evaluator objectnet: ")
    assert (finished / workdir.ACCURACY).exists()
    page = (finished / workdir.REPORT).read_text()
    assert "imagenetv2" in page and "not evaluated: missing" in page


def test_the_evaluate_command_takes_the_config_of_the_stage(finished, data, tmp_path, capsys):
    config = shrunk(data)
    eval_overrides.apply(config, ["--config.evals=imagenet1k,objectnet"])
    status = command.Command(config, out=str(tmp_path)).evaluate(str(finished))
    assert status == command.INCOMPLETE
    report = json.loads(capsys.readouterr().out)
    trained = json.loads((finished / "finetune_336" / workdir.EVALUATION).read_text())
    assert list(report["evaluations"]) == ["imagenet1k"]
    metrics = report["evaluations"]["imagenet1k"]["metrics"]
    assert metrics == trained["evaluations"]["imagenet1k"]["metrics"]
    note = "objectnet: not evaluated: missing: "
    assert note in (tmp_path / "evaluation.md").read_text()


def test_required_data_that_is_missing_stops_the_start(data, tmp_path, monkeypatch):
    monkeypatch.chdir(golden.ROOT)
    with pytest.raises(MissingData, match="evaluator flickr30k: no data of flickr30k"):
        stage.prepare(shrunk(data, evals_required=True), tmp_path, {})


def test_missing_data_is_announced_once_for_all_stages(data, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(golden.ROOT)
    first = stage.prepare(shrunk(data), tmp_path, {})
    stage.prepare(shrunk(data, name="again"), tmp_path, {"finetune_336": first})
    lines = [r.getMessage() for r in caplog.records if "not evaluated: missing" in r.getMessage()]
    assert len(lines) == len(MISSING)
    assert all("looked for" in line and "make it with: " in line for line in lines)
    assert Path(first.missing["objectnet"].looked.split(", ")[-1]).name == "images"

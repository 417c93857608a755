"""Every config resolves to its golden text: nothing changes unseen."""

import ast
import difflib

import pytest

from clipa_jax import models, trees
from clipa_jax.config import recipes, schema
from clipa_jax.config.settings import Settings
from clipa_jax.losses import LOSSES
from clipa_jax.models import surgery
from clipa_jax.training import state, steps
from tests.helpers import golden


@pytest.mark.parametrize("name", golden.stages())
def test_config_resolves_to_its_golden_text(name):
    file = golden.FOLDER / f"{name}.txt"
    there = file.read_text() if file.exists() else ""
    here = golden.text(golden.get_config(*golden.stages()[name]))
    lines = difflib.unified_diff(
        there.splitlines(),
        here.splitlines(),
        f"golden {name}",
        f"resolved {name}",
        lineterm="",
        n=1,
    )
    difference = "\n".join(lines)
    assert not difference, (
        f"{difference}\nIf this is meant: {golden.COMMAND}\nand commit what it wrote."
    )


def test_no_golden_text_is_left_over():
    there = {file.stem for file in golden.FOLDER.glob("*.txt")}
    assert there == set(golden.stages()), f"run {golden.COMMAND}"


@pytest.mark.parametrize("name", golden.schedules())
def test_a_schedule_chains_the_stages_beside_it(name):
    folder = name.split("/")[0]
    prefix = "v1_" if "v1_" in name else ""
    schedule = golden.get_config(name)
    before = ""
    for stage in schedule.stages:
        alone = golden.get_config(f"{folder}/{prefix}{stage}")
        assert golden.dump(schedule[stage]) == golden.dump(alone)
        assert (alone.name, alone.after) == (stage, before)
        before = stage


@pytest.mark.parametrize("name", golden.schedules())
def test_the_weights_of_each_stage_fit_the_next(name):
    """By shapes, with one layer a tower: the surgery of a stage mends all that differs."""
    schedule = golden.get_config(name)
    leaves = None
    for stage in schedule.stages:
        config = schedule[stage]
        config.model.image.depth = config.model.text.depth = 1
        model = models.build(Settings(config.model))
        target = trees.flatten(state.param_shapes(model, config.input.res, config.input.text_len))
        if leaves is not None:
            changed = {n for n in target if leaves[n].shape != target[n].shape}
            assert changed <= {"txt/pos_embedding"}  # image positions are computed
            images, texts = config.surgery
            assert images == "image_positions"
            assert texts in ("text_positions", "text_positions_kept")
            surgery.check(config.surgery)
        leaves = target


@pytest.mark.parametrize("name", golden.stages())
def test_a_config_has_exactly_the_declared_keys(name):
    """Evaluators have names of their own."""
    config = golden.get_config(*golden.stages()[name])
    declared = schema.default()
    config.evals = declared.evals
    assert keys(config) == keys(declared)
    assert config.loss.name in LOSSES
    settings = Settings(config)
    models.build(settings.model)
    steps.Mask.build(settings.mask)
    assert settings.model.unread() == settings.mask.unread() == []


def keys(config, prefix=""):
    found = set()
    for key, value in config.items():
        nested = hasattr(value, "items")
        found |= keys(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}"}
    return found


@pytest.mark.parametrize(
    ("name", "variant", "message"),
    [
        ("model_h/finetune_224", "shrt", "unknown variant 'shrt'; legal: short$"),
        ("model_h/schedule", "res=70", "legal: short; values are set by flags, as --config.input"),
        ("model_l/v1_pretrain", "i37_t8,i17_t16", "unknown variant 'i37_t8,i17_t16'"),
        ("model_h/finetune_448", "", "no config file .*configs/model_h/finetune_448.py"),
    ],
)
def test_unknown_variants_and_files_are_refused(name, variant, message):
    with pytest.raises(ValueError, match=message):
        recipes.load(name, variant)


def test_a_variant_of_a_schedule_applies_to_its_stages():
    assert recipes.load("model_h/schedule", "short").stages == ("pretrain", "finetune_224")
    schedule = recipes.load("model_l/v1_schedule", "i37_t8")
    assert [schedule[stage].input.text_len for stage in schedule.stages] == [8, 32]


def test_every_config_stands_alone_in_configs():
    """A file of `configs/` imports the package and no neighbor, so that copying it forks it."""
    for file in (golden.ROOT / "configs").rglob("*.py"):
        roots = {
            (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        assert roots <= {"clipa_jax", "ml_collections"}, file

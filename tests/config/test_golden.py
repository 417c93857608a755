"""Every config resolves to its golden text: nothing changes unseen."""

import difflib

import pytest

from clipa_jax import models, trees
from clipa_jax.config import schema
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
            named = "text_positions" in config.surgery and "image_positions" in config.surgery
            assert named
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
    ("name", "arg", "said"),
    [
        ("model_h/pretrain", "ras=70", "unknown argument 'ras=70' of the config; legal: res=, "),
        ("model_h/pretrain", "res=seventy", "'res=seventy' of the config: expected a number"),
        ("model_h/pretrain", "i37_t8", "unknown argument 'i37_t8'.*, short$"),
        ("model_l/v1_pretrain", "i37_t8,i17_t16", "two variants of L/16; name one"),
        ("model_h/finetune_336", "short", "H/14:short has no stage finetune_336, only pretrain"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(name, arg, said):
    with pytest.raises(ValueError, match=said):
        golden.get_config(name, arg)


def test_arguments_change_the_row_and_a_schedules_first_stage():
    config = golden.get_config("model_l/v1_pretrain", "i37_t8,res=80,batch_size=1024")
    assert (config.input.res, config.input.text_len, config.input.batch_size) == (80, 8, 1024)
    schedule = golden.get_config("model_h/schedule", "res=70")
    assert (schedule.pretrain.input.res, schedule.finetune_224.input.res) == (70, 224)
    assert golden.get_config("model_h/schedule", "short").stages == ("pretrain", "finetune_224")

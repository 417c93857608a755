"""Values of the recipe for own pairs: by the rules, by overrides, and by the minutes."""

import json
import math

import pytest

from clipa_jax.config import recipes
from clipa_jax.errors import CheckpointError, ConfigError
from clipa_jax.training import derive, workdir
from clipa_jax.weights import open_weights
from tests.helpers import small_stage

DATA, PAIRS = "tfds:data/emoji/1.0.0", 6_729
VOCAB = "data/emoji/vocab.txt"


def own(variant="Ti", **overrides):
    """The schedule with the keys of `config.all` that are given."""
    c = recipes.load("own/schedule", variant)
    values = {"input.source": DATA, "input.vocab": VOCAB}
    values |= {key.replace("__", "."): value for key, value in overrides.items()}
    c["all"].update_from_flattened_dict(values)
    return c.lock()  # as a command gives it


def fill(config, root=None):
    return derive.resolve(config, open_weights, root)


@pytest.mark.parametrize(
    ("pairs", "devices", "per_device", "batch"),
    [
        (100, 1, 256, 64),
        (6_729, 1, 256, 128),
        (10_000, 1, 256, 128),
        (1_000_000, 1, 256, 256),
        (1_000_000, 8, 1_024, 8_192),
        (100_000, 6, 1_024, 1_020),
    ],
)
def test_the_batch_is_a_64th_of_the_pairs_within_the_bounds_of_the_devices(
    pairs, devices, per_device, batch
):
    assert derive.batch_size(pairs, devices, per_device) == batch


def test_what_the_recipe_leaves_open_follows_from_the_pairs():
    stages = fill(own())
    assert [stage.name for stage in stages] == ["pretrain", "finetune_1", "finetune_2"]
    for stage, share in zip(stages, (0.88, 0.10, 0.02), strict=True):
        assert stage.input.batch_size == 128
        expected = share * 1e4 * math.sqrt(PAIRS)
        assert stage.total_examples % 128 == 0
        assert stage.total_examples == pytest.approx(expected, abs=128)
        assert (stage.input.cache, stage.input.shuffle_window) == ("encoded", PAIRS)
        assert (stage.model.dtype, stage.model.layers) == ("float32", "unrolled")
        assert stage.model.text.vocab_size == 2_048
    assert [stage.input.res for stage in stages] == [64, 112, 160]


def test_the_evaluation_needs_a_split_of_held_out_pairs():
    assert not fill(own())[0].evals
    c = own()
    for name in c.stages:
        c[name].evals.retrieval.split = "heldout_pictures"
    assert fill(c)[0].evals.retrieval.source == DATA


def test_what_is_set_on_the_command_line_stays():
    stages = fill(own(input__batch_size=16, total_steps=5, model__dtype="bfloat16"))
    assert {stage.input.batch_size for stage in stages} == {16}
    assert {(stage.total_steps, stage.total_examples) for stage in stages} == {(5, None)}
    assert {stage.model.dtype for stage in stages} == {"bfloat16"}


def test_other_configs_are_left_alone():
    (stage,) = fill(recipes.load("demo/pretrain"))
    assert stage.total_examples == 128 * 4_600


def test_the_samples_fit_the_minutes_and_a_resumed_run_keeps_them(tmp_path, monkeypatch):
    monkeypatch.setattr(derive, "pace", lambda stage: (10.0, 0.5))
    c = own()
    c.minutes = 60.0
    stages = fill(c, tmp_path)
    steps = sum(stage.total_examples / 128 for stage in stages)
    assert steps * 0.5 + 3 * 10 == pytest.approx(0.9 * 3_600, rel=0.01)
    assert json.loads((tmp_path / workdir.DERIVED).read_text())["minutes"] == 60
    monkeypatch.delattr(derive, "pace")  # nothing is measured again
    assert fill(c, tmp_path)[0].total_examples == stages[0].total_examples


def test_too_few_minutes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(derive, "pace", lambda stage: (10.0, 0.5))
    c = own()
    c.minutes = 0.5
    with pytest.raises(ConfigError, match="0.5 minutes are not enough"):
        fill(c, tmp_path)


def test_the_pace_of_a_stage_is_measured_with_its_data(monkeypatch):
    monkeypatch.setattr(derive, "TRIAL", 4)
    data = {"source": DATA, "preprocess": recipes.augmentation(jitter=0.0)}
    stage = small_stage.config(**{f"input__{key}": value for key, value in data.items()})
    start, step = derive.pace(stage)
    assert start > 0 and step > 0


@pytest.mark.parametrize(("variant", "size"), [("B", "B/16"), ("S/32", "S/32")])
def test_the_argument_is_the_size_with_or_without_patch(variant, size):
    c = recipes.load("own/schedule", variant)
    assert c.pretrain.model.size == size
    assert c.pretrain.input.res == 4 * int(size.split("/")[1])


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A workdir with a stage of unusual numbers."""
    root = tmp_path_factory.mktemp("W")
    odd = {
        "model__text__pool": "gap",
        "model__image__gelu": "exact",
        "model__mean": (0.1, 0.2, 0.3),
    }
    small_stage.stage(root, small_stage.config("odd", **odd))
    return str(root)


def tuned(init, file="domain", variant="", **overrides):
    """The only stage of a recipe of fine-tuning."""
    c = recipes.load(f"finetune/{file}", variant)
    values = {"input.source": DATA, "init": init}
    values |= {key.replace("__", "."): value for key, value in overrides.items()}
    c.update_from_flattened_dict(values)
    (stage,) = fill(c.lock())
    return stage


def test_fine_tuning_takes_the_model_and_the_input_of_the_towers_from_the_weights(weights):
    stage, origin = tuned(weights), open_weights(weights).config
    kept = {"dtype", "attention", "layers"}
    for key in set(origin.model) - kept - {"image", "text"}:
        assert stage.model[key] == origin.model[key], key
    for tower in ("image", "text"):
        for key in set(origin.model[tower]) - {"remat"}:
            assert stage.model[tower][key] == origin.model[tower][key], key
    for key in ("res", "text_len", "vocab", "clean", "preprocess_eval"):
        assert stage.input[key] == origin.input[key], key
    assert (stage.input.source, stage.input.caption) == (DATA, None)
    assert (stage.model.layers, stage.model.image.remat) == ("scanned", "full")


def test_the_length_of_fine_tuning_is_ten_passes_or_a_thousand_times_the_root(weights):
    assert tuned(weights).total_examples == pytest.approx(10 * PAIRS, abs=128)
    assert tuned(weights, pairs=1_000_000).total_examples == pytest.approx(1e6, abs=2_048)
    assert tuned(weights, pairs=1_000_000).input.batch_size == 256 * 8  # on the devices of the test
    assert tuned(weights, total_epochs=2.0).total_examples is None


def test_micro_batches_are_for_devices_of_little_memory(weights):
    many = {"pairs": 1_000_000}
    assert tuned(weights, **many).microbatch is None
    assert tuned(weights, variant="small_memory", **many).microbatch == 64 * 8
    assert tuned(weights, variant="small_memory").microbatch is None  # a batch of 128


def test_a_larger_side_and_another_length_stay_as_given(weights):
    stage = tuned(weights, input__res=32, input__text_len=9)
    assert (stage.input.res, stage.input.text_len) == (32, 9)


def test_a_new_text_tower_has_the_table_of_its_vocabulary(weights):
    new = {"surgery": ("fresh:txt/.*",), "input__vocab": "bert-base-uncased"}
    assert tuned(weights, "lit", **new).model.text.vocab_size == 30_592
    assert tuned(weights, "lit").model.text.vocab_size == 2_048
    assert tuned(weights, "lit").optim.freeze == ("image",)


def test_fine_tuning_without_weights_or_without_their_config_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"name the weights to start from: --config.init="):
        tuned("")
    (tmp_path / "x.npz").touch()
    with pytest.raises(CheckpointError, match=r"x.npz carries no config; start from it with"):
        tuned(str(tmp_path / "x.npz"))

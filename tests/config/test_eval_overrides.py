"""Evaluators chosen and changed from the command line, in configs of every kind."""

import dataclasses
import json

import pytest
from ml_collections import ConfigDict

from clipa_jax import evaluators
from clipa_jax.config import eval_overrides, evals, recipes
from clipa_jax.config.settings import Settings
from clipa_jax.errors import ConfigError
from clipa_jax.evaluators import class_names

LISTED = class_names.asset("datasets")


def apply(config, *arguments):
    assert all(eval_overrides.matches(argument) for argument in arguments)
    eval_overrides.apply(config, arguments)
    return config


@pytest.fixture(params=["model_h/pretrain", "eval/imagenet"])
def config(request):
    """A config of training and one of evaluation."""
    return recipes.load(request.param)


def test_a_list_keeps_evaluators_adds_others_and_drops_the_rest(config):
    kept = config.evals.imagenet1k.to_dict()
    apply(config, "--config.evals=imagenet1k,flickr8k,cifar10,class_folders:/data/mine")
    assert set(config.evals) == {"imagenet1k", "flickr8k", "cifar10", "mine"}
    assert config.evals.imagenet1k.to_dict() == kept
    assert (config.evals.flickr8k.type, config.evals.flickr8k.dataset) == ("retrieval", "flickr8k")
    assert (config.evals.cifar10.type, config.evals.cifar10.dataset) == ("zero_shot", "cifar10")
    assert config.evals.mine.source == "class_folders:/data/mine"


def test_none_drops_all(config):
    assert not apply(config, "--config.evals=none").evals


def test_short_names_are_those_of_the_catalogue(config):
    apply(config, "--config.evals=imagenet,coco")
    assert list(config.evals) == ["imagenet1k", "mscoco_captions"]
    assert {name: LISTED["aliases"][name] for name in evals.ALIASES} == evals.ALIASES
    assert set(eval_overrides.DATASETS) - set(evals.ALIASES) == set(LISTED["datasets"])


def test_single_keys_change_an_evaluator_or_add_one(config):
    apply(
        config,
        "--config.evals.imagenet1k.templates=a photo of a {}.",
        "--config.evals.imagenet1k.batch_size=64",
        "--config.evals.imagenetv2.type=off",
        "--config.evals.cifar10.templates=('{}', 'a {}')",
        "--config.evals.mine.source=class_folders:/data/mine",
        "--config.evals.mine.classes=cat,dog",
        "--config.evals.mine.templates={}",
        "--config.evals.mine.canonicalize=True",
    )
    assert config.evals.imagenet1k.templates == "a photo of a {}."
    assert config.evals.imagenet1k.batch_size == 64
    assert config.evals.imagenetv2.type == "off"
    assert config.evals.cifar10.dataset == "cifar10"
    assert config.evals.cifar10.templates == ("{}", "a {}")
    mine = config.evals.mine
    assert (mine.type, mine.classes, mine.templates) == ("zero_shot", "cat,dog", "{}")
    assert mine.canonicalize is True


def test_in_a_schedule_stages_are_named():
    schedule = apply(
        recipes.load("model_h/schedule"),
        "--config.all.evals=imagenet1k",
        "--config.finetune_336.evals=cifar10",
        "--config.all.evals.imagenet1k.batch_size=512",
    )
    assert list(schedule.pretrain.evals) == ["imagenet1k"]
    assert schedule.pretrain.evals.imagenet1k.batch_size == 512
    assert "cifar10" in schedule.finetune_336.evals
    with pytest.raises(ConfigError, match="legal: --config.all.evals, --config.pretrain.evals"):
        apply(schedule, "--config.evals=none")
    with pytest.raises(ConfigError, match="legal: --config.evals"):
        apply(recipes.load("model_h/pretrain"), "--config.all.evals=none")


@pytest.mark.parametrize(
    "argument", ["--config.evals=imagnet1k", "--config.evals.imagnet1k.templates=photo"]
)
def test_a_misspelled_data_set_names_the_nearest(config, argument):
    with pytest.raises(ConfigError, match="dataset 'imagnet1k'; nearest: imagenet1k"):
        apply(config, argument)


def test_published_stages_have_the_published_suite():
    for name in ("model_b/pretrain", "model_l/finetune_336", "model_g/finetune_224"):
        config = recipes.load(name)
        at_end = {name for name, section in config.evals.items() if "when" in section}
        classified = {"imagenet1k", "imagenetv2", "imagenet_a", "imagenet_r", "imagenet_sketch"}
        assert at_end == classified | {"objectnet", "mscoco_captions", "flickr30k"}
        assert set(config.evals) - at_end == {"imagenet1k_7"}
        json.dumps(config.evals.to_dict())


def test_a_key_for_all_stages_reaches_those_that_have_the_evaluator():
    schedule = recipes.load("model_h/schedule")
    apply(schedule, "--config.pretrain.evals=imagenet_a", "--config.all.evals.imagenet1k.type=off")
    assert schedule.finetune_224.evals.imagenet1k.type == "off"
    apply(
        schedule, *(f"--config.all.evals.{n}.batch_size=64" for n in ("imagenet-a", "imagenet1k"))
    )
    assert list(schedule.pretrain.evals) == ["imagenet_a"]
    assert {schedule[stage].evals.imagenet_a.batch_size for stage in schedule.stages} == {64}


@pytest.mark.parametrize("kind", evaluators.EVALUATORS)
def test_none_can_be_given_to_the_keys_of_an_evaluator_that_allow_it(kind):
    for field in dataclasses.fields(evaluators.EVALUATORS[kind].Config):
        mine = {"type": kind, "source": "folder:a", "split": "train", field.name: 1}
        config = apply(
            ConfigDict({"evals": {"mine": mine}}), f"--config.evals.mine.{field.name}=None"
        )
        sections = Settings(config.evals, "config.evals")
        if "None" in str(field.type):
            assert getattr(evaluators.configs(sections)["mine"][1], field.name) is None
        else:
            with pytest.raises(ConfigError, match=f"evals.mine.{field.name}=None: expected "):
                evaluators.configs(sections)


@pytest.mark.parametrize(
    ("kind", "argument", "expected"),
    [
        ("zero_shot", "by=5", "str or None"),
        ("zero_shot", "templates=5", "str, tuple of str or None"),
        ("retrieval", "captions=x", "tuple of int or None"),
        ("retrieval", "ks=(1,'a')", "tuple of int"),
        ("linear_probe", "l2=True", "float, tuple of float or None"),
    ],
)
def test_an_evaluators_value_of_another_type_is_refused(kind, argument, expected):
    mine = {"type": kind, "source": "folder:a", "split": "train"}
    config = apply(ConfigDict({"evals": {"mine": mine}}), f"--config.evals.mine.{argument}")
    with pytest.raises(ConfigError, match=f"expected {expected}$"):
        evaluators.configs(Settings(config.evals, "config.evals"))

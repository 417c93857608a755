"""The configs of evaluation: their evaluators exist and take what they are given."""

import inspect

import pytest

from clipa_jax.config import recipes
from clipa_jax.evaluators import EVALUATORS

CONFIGS = {
    "imagenet": "",
    "clip_benchmark": "",
    "retrieval": "mscoco_captions,flickr30k",
    "zero_shot": "imagenet-a,cifar10,clip_benchmark:/data/mine/",
    "linear_probe": "cifar10",
}


@pytest.mark.parametrize("name", CONFIGS)
def test_evaluators_take_what_their_sections_say(name):
    config = recipes.load(f"eval/{name}", CONFIGS[name])
    config.batch_size = 64
    assert len(config.evals) >= 2
    for section in config.evals.values():
        legal = inspect.signature(EVALUATORS[section.type].Config).parameters
        assert set(section) - {"type"} <= set(legal)
        assert section.batch_size == 64
        assert ("dataset" in section) != ("source" in section)


def test_names_of_evaluators_and_their_data():
    config = recipes.load("eval/zero_shot", CONFIGS["zero_shot"])
    assert set(config.evals) == {"imagenet_a", "cifar10", "mine"}
    assert config.evals.mine.source == "clip_benchmark:/data/mine/"
    config.language = "it"
    assert config.evals.cifar10.language == "it"
    probes = recipes.load("eval/linear_probe", "cifar10")
    assert set(probes.evals) == {"cifar10_few_shot", "cifar10_ridge", "cifar10_logistic"}


def test_names_are_needed():
    with pytest.raises(ValueError, match="name datasets after the colon"):
        recipes.load("eval/zero_shot")

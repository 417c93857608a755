"""The released models: their recipes beside open_clip's architectures."""

import dataclasses

import open_clip
import pytest

from clipa_jax import models
from clipa_jax.config import recipes
from clipa_jax.config.settings import Settings
from clipa_jax.weights import architecture, released


@pytest.mark.parametrize("name", released.MODELS)
def test_a_released_model_has_the_architecture_of_its_recipe(name):
    model = released.MODELS[name]
    recipe = recipes.load(model.config.removeprefix("configs/").removesuffix(".py"))
    content = {"model_cfg": open_clip.get_model_config(model.architecture)}
    config = architecture.from_open_clip(content)
    assert config.input.res == recipe.input.res == model.res
    assert config.input.text_len == recipe.input.text_len
    assert config.input.vocab == recipe.input.vocab == "bert-base-uncased"
    theirs, ours = (models.build(Settings(c.model)) for c in (config, recipe))
    for tower in ("img", "txt"):
        numerics = released.NUMERICS["clipa"]
        changed = dataclasses.replace(getattr(theirs, tower).config, **numerics)
        expected = dataclasses.replace(
            getattr(ours, tower).config,
            **{key: getattr(changed, key) for key in ("dtype", "attention", "layers", "remat")},
        )
        if tower == "img":  # open_clip stores the table
            changed = dataclasses.replace(changed, posemb="sincos2d")
        assert changed == expected
